"""The scripts about who owns what: slots and their calls, fences, the lease, secrets; see `store.redis.scripts`."""

from __future__ import annotations

from store.redis.scripts import CALLS, CLOCK, FENCES, PREFIX

SLOTS = (
    PREFIX
    + """
local counts = {}
for _, slot in ipairs(redis.call('SMEMBERS', P .. 'slots')) do
  local count = redis.call('ZCARD', P .. 'slot:' .. slot)
  if count == 0 then
    redis.call('SREM', P .. 'slots', slot)
  else
    counts[#counts + 1] = slot
    counts[#counts + 1] = count
  end
end
return counts
"""
)
"Prefix. Returns slots and how many live calls each has."

CLAIM = (
    PREFIX
    + FENCES
    + CALLS
    + """
local node, slot, epoch, left = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if epoch < fence_of(slot) then return false end
lift('#', epoch)
local taken, head = {}, string.format('%020.0f', epoch)

-- Many at a time: most of what a claim costs are the calls.
local function take(from, uuids)
  local places = {}
  for n, uuid in ipairs(uuids) do places[n] = P .. 'c:' .. uuid end
  local values = redis.call('MGET', unpack(places))
  local rows, scores, gone = {}, {}, {}
  for n, uuid in ipairs(uuids) do
    local value = values[n]
    if value then
      local is, last = summary(value)
      local packed = cmsgpack.pack({node, slot, true, is[4], is[5], is[6]})
      local version = string.format('%020.0f', tonumber(string.sub(value, 21, 40)) + 1)
      value = table.concat({head, version, string.format('%06d', #packed), packed, string.sub(value, last + 1)})
      rows[#rows + 1] = places[n]
      rows[#rows + 1] = value
      scores[#scores + 1] = ARGV[4]
      scores[#scores + 1] = uuid
      taken[#taken + 1] = value
    end
    if not value or from ~= slot then gone[#gone + 1] = uuid end
  end
  if #gone > 0 then redis.call('ZREM', P .. 'slot:' .. from, unpack(gone)) end
  if #rows > 0 then
    redis.call('MSET', unpack(rows))
    redis.call('ZADD', P .. 'slot:' .. slot, unpack(scores))
    redis.call('SADD', P .. 'slots', slot)
  end
end

for n = 6, #ARGV do
  lift(ARGV[n], epoch)
  local more = true
  while more and #taken < left do
    local some = math.min(left - #taken, 500)
    local uuids = redis.call('ZRANGEBYSCORE', P .. 'slot:' .. ARGV[n], '-inf', '(' .. ARGV[4], 'LIMIT', 0, some)
    more = #uuids == some
    if #uuids > 0 then take(ARGV[n], uuids) end
  end
end
return taken
"""
)
"Prefix, node, slot, epoch, limit, then the slots. Returns the calls as they are now; nothing where the epoch is over."

RAISE_FENCE = (
    PREFIX
    + CLOCK
    + FENCES
    + """
local lease = redis.call('HMGET', P .. 'lease', 'holder', 'epoch')
if ARGV[3] ~= '' and (lease[1] ~= ARGV[3] or lease[2] ~= ARGV[4]) then return false end
local epoch = math.max((fences['#'] or 0) + 1, math.floor(now * 1000))
lift('#', epoch)
lift(ARGV[2], epoch)
return string.format('%.0f', epoch)
"""
)
"Prefix, slot, and the holder and epoch of a lease, or nobody and 0. Returns the new epoch; nothing if the lease is lost."

ACQUIRE = (
    PREFIX
    + CLOCK
    + FENCES
    + """
local lease = redis.call('HMGET', P .. 'lease', 'holder', 'until')
if lease[1] and lease[1] ~= '' and lease[1] ~= ARGV[2] and tonumber(lease[2]) > now then return false end
local epoch = math.max((fences['#'] or 0) + 1, math.floor(now * 1000))
lift('#', epoch)
lift('*', epoch)
lift('@' .. ARGV[2], epoch)
local ends = string.format('%.17g', now + tonumber(ARGV[3]))
epoch = string.format('%.0f', epoch)
redis.call('HSET', P .. 'lease', 'holder', ARGV[2], 'epoch', epoch, 'until', ends)
return {ARGV[2], epoch, ends, string.format('%.17g', now)}
"""
)
"Prefix, holder, seconds. Returns the lease, nothing if somebody else holds it."

RENEW = (
    PREFIX
    + CLOCK
    + """
local lease = redis.call('HMGET', P .. 'lease', 'holder', 'epoch')
if lease[1] ~= ARGV[2] or lease[2] ~= ARGV[3] then return false end
local ends = string.format('%.17g', now + tonumber(ARGV[4]))
redis.call('HSET', P .. 'lease', 'until', ends)
return {ARGV[2], ARGV[3], ends, string.format('%.17g', now)}
"""
)
"Prefix, holder, epoch, seconds. Returns the lease, nothing if it is lost."

RELEASE = (
    PREFIX
    + """
local lease = redis.call('HMGET', P .. 'lease', 'holder', 'epoch')
if lease[1] == ARGV[2] and lease[2] == ARGV[3] then redis.call('HSET', P .. 'lease', 'holder', '', 'until', '0') end
return 1
"""
)
"Prefix, holder, epoch."

READ_LEASE = (
    PREFIX
    + CLOCK
    + """
local lease = redis.call('HMGET', P .. 'lease', 'holder', 'epoch', 'until')
if not lease[1] or lease[1] == '' then return false end
return {lease[1], lease[2], lease[3], string.format('%.17g', now)}
"""
)

SECRET = (
    PREFIX
    + """
local place = P .. 'secret:' .. ARGV[2]
local there = redis.call('GET', place)
if there then return there end
redis.call('SET', place, ARGV[3])
return ARGV[3]
"""
)
"Prefix, name, the secret if there is none yet."

HERITAGE = (
    PREFIX
    + """
local found = {redis.call('HGET', P .. 'fences', '#') or '0'}
for n = 2, #ARGV do found[n] = redis.call('GET', P .. 'secret:' .. ARGV[n]) or '' end
return found
"""
)
"Prefix, names of secrets. Returns the last epoch, then the secrets, empty where there is none."

INHERIT = (
    PREFIX
    + FENCES
    + """
lift('#', tonumber(ARGV[2]))
for n = 3, #ARGV, 2 do redis.call('SET', P .. 'secret:' .. ARGV[n], ARGV[n + 1]) end
return 1
"""
)
"Prefix, epoch, then names and secrets."

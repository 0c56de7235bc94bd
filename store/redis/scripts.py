"""What lies in Redis, and the scripts that change it; those about who owns what are in `store.redis.reign`. Redis runs one script at a time, so each is a transaction.

With the prefix before each key:

    schema              the version of all this
    compatible-from     the oldest version whose releases can work with that
    r:<key>             a registration: head, record. Lives a while longer than the registration, to be told of
    due:<profile>       sorted set: the keys of its registrations by their end (`inf`: none)
    profiles            set of the profiles that have registrations
    aor:<user>@<host>   set of the keys of its registrations
    c:<uuid>            a call: head, length of the summary, summary, record
    slot:<slot>         sorted set: its live calls by their epoch
    slots               set of the slots that have live calls
    tombs               sorted set: ended calls by the end of their tombstones
    id:<Call-ID>        hash whose fields are the calls that have a leg with it
    fences              hash: oldest epoch that may write, by slot; `*` all slots, `#` the last epoch given out,
                        `@<node>` the last epoch under which that node took the lease
    lease               hash: holder, epoch, until
    secret:<name>
    feed                stream: an entry a commit, with the registrations that it changed

A head is epoch and version, 20 digits each, so that as texts they compare like the numbers. The summary of a call is
msgpack: node, slot, whether it is live, profile, end of the tombstone, Call-IDs; head and summary are the truth about
owner and version, whatever the record itself says, for a claim does not unpack it.
"""

from __future__ import annotations

SCHEMA = 1
COMPATIBLE_FROM = 1
"The oldest version whose releases read what this one writes, and write what it can read."

GRACE = 600
"Seconds that a registration past due is kept for whoever sweeps; after that Redis drops it by itself."
TOMB_GRACE = 86_400

CLOCK = """
local at = redis.call('TIME')
local now = tonumber(at[1]) + tonumber(at[2]) / 1000000
"""

PREFIX = """
local P = ARGV[1]
"""

CALLS = """
local HEAD = 40
local function summary(value)
  local length = tonumber(string.sub(value, 41, 46))
  return cmsgpack.unpack(string.sub(value, 47, 46 + length)), 46 + length
end
local function unlist(uuid, was)
  if was[3] then redis.call('ZREM', P .. 'slot:' .. was[2], uuid) else redis.call('ZREM', P .. 'tombs', uuid) end
end
local function list(uuid, is, epoch)
  if not is[3] then
    redis.call('ZADD', P .. 'tombs', is[5], uuid)
  elseif redis.call('ZADD', P .. 'slot:' .. is[2], epoch, uuid) == 1 then
    redis.call('SADD', P .. 'slots', is[2])
  end
end
local function drop_ids(uuid, ids, kept)
  for _, id in ipairs(ids) do
    if not (kept and kept[id]) then redis.call('HDEL', P .. 'id:' .. id, uuid) end
  end
end
local function drop(uuid, value)
  local was = summary(value)
  redis.call('DEL', P .. 'c:' .. uuid)
  unlist(uuid, was)
  drop_ids(uuid, was[6])
end
"""

TELL = """
local function tell(changed, limit)
  for start = 1, #changed, 1000 do
    redis.call('XADD', P .. 'feed', 'MAXLEN', '~', limit, '*', unpack(changed, start, math.min(start + 999, #changed)))
  end
end
"""

FENCES = """
local fences = {}
local flat = redis.call('HGETALL', P .. 'fences')
for i = 1, #flat, 2 do fences[flat[i]] = tonumber(flat[i + 1]) end
local function lift(slot, epoch)
  if (fences[slot] or 0) < epoch then
    redis.call('HSET', P .. 'fences', slot, string.format('%.0f', epoch))
    fences[slot] = epoch
  end
end
local function fence_of(slot) return math.max(fences[slot] or 0, fences['*'] or 0) end
"""

OPEN = (
    PREFIX
    + """
local there = redis.call('GET', P .. 'schema')
local version = tonumber(there or '0')
if version and version < tonumber(ARGV[2]) then
  redis.call('SET', P .. 'schema', ARGV[2])
  redis.call('SET', P .. 'compatible-from', ARGV[3])
  return {tonumber(ARGV[2]), tonumber(ARGV[3])}
end
return {version or false, tonumber(redis.call('GET', P .. 'compatible-from') or '') or false}
"""
)
"""Prefix, version, the oldest version whose releases work with that. Returns both as they are now, of a newer release
perhaps; nothing in the place of what cannot be read."""

COMMIT = (
    PREFIX
    + CLOCK
    + TELL
    + FENCES
    + CALLS
    + f"local GRACE, TOMB_GRACE = {GRACE}, {TOMB_GRACE}\n"
    + """
local plans = cmsgpack.unpack(ARGV[3])
local changed = {}
local function lifetime(expires, grace) return math.ceil(math.max(expires - now, 0) + grace) end

local function registration(op, key, value, head, profile, aor, expires)
  local place = P .. 'r:' .. key
  local old = redis.call('GETRANGE', place, 0, HEAD - 1)
  if old ~= '' and string.sub(head, 21) <= string.sub(old, 21) then return 'a' end
  if op == 'R' then
    if old ~= '' then
      redis.call('DEL', place)
      redis.call('ZREM', P .. 'due:' .. profile, key)
      redis.call('SREM', P .. 'aor:' .. aor, key)
      changed[#changed + 1] = 'r'
      changed[#changed + 1] = key
    end
    return 'S'
  end
  if expires > 0 then
    redis.call('SET', place, value, 'EX', lifetime(expires, GRACE))
  else
    redis.call('SET', place, value)
  end
  if redis.call('ZADD', P .. 'due:' .. profile, expires > 0 and expires or '+inf', key) == 1 then
    redis.call('SADD', P .. 'profiles', profile)
    redis.call('SADD', P .. 'aor:' .. aor, key)
  end
  changed[#changed + 1] = 'r'
  changed[#changed + 1] = key
  return 'S'
end

local function call(op, uuid, value, head, epoch, tomb)
  local place = P .. 'c:' .. uuid
  local length = op == 'R' and 0 or tonumber(string.sub(value, 41, 46))
  local old = redis.call('GETRANGE', place, 0, 45 + length)
  if old ~= '' then
    local mine, theirs = string.sub(head, 1, 20), string.sub(old, 1, 20)
    if mine < theirs then return 'F' end
    if mine == theirs and string.sub(head, 21) <= string.sub(old, 21, 40) then return 'a' end
  end
  if op == 'R' then
    if old ~= '' then drop(uuid, redis.call('GET', place)) end
    return 'S'
  end
  local alike = old ~= '' and string.sub(value, 1, 20) == string.sub(old, 1, 20)
    and string.sub(value, 41, 46 + length) == string.sub(old, 41)
  if not alike then
    local is = summary(value)
    local kept, had = {}, {}
    for _, id in ipairs(is[6]) do kept[id] = true end
    if old ~= '' then
      local was = summary(redis.call('GET', place))
      if was[3] ~= is[3] or was[2] ~= is[2] then unlist(uuid, was) end
      drop_ids(uuid, was[6], kept)
      for _, id in ipairs(was[6]) do had[id] = true end
    end
    for id in pairs(kept) do
      if not had[id] then redis.call('HSET', P .. 'id:' .. id, uuid, '') end
    end
    list(uuid, is, epoch)
  end
  if tomb then
    redis.call('SET', place, value, 'EX', lifetime(tomb, TOMB_GRACE))
  else
    redis.call('SET', place, value)
  end
  return 'S'
end

local function fenced(epoch, slot, heir)
  if epoch >= fence_of(slot) then return false end
  if heir == '*' then return false end
  if not heir then return true end
  for name, ruled in pairs(fences) do
    if string.sub(name, 1, 1) == '@' and name ~= '@' .. heir and ruled > epoch then return true end
  end
  return false
end

local outcomes = {}
for n, plan in ipairs(plans) do
  local op, slot, epoch = plan[1], plan[2], plan[3]
  local value = ARGV[n + 3]
  if fenced(epoch, slot, plan[8]) then
    outcomes[n] = 'F'
  elseif plan[5] then
    outcomes[n] = registration(op, plan[4], value, string.sub(value, 1, HEAD), plan[5], plan[6], plan[7])
  else
    outcomes[n] = call(op, plan[4], value, string.sub(value, 1, HEAD), epoch, plan[6])
  end
end
tell(changed, ARGV[2])
return table.concat(outcomes)
"""
)
"""Prefix, length of the feed, plans, then a value a write. Returns a letter a write: S stored, a stale, F fenced.

A plan is msgpack: P or R, slot, epoch, key; then of a registration its profile, address of record and end; of an ended
call `false`, the end of its tombstone, `false`; then the heir, where there is one (`*`: anybody).
"""

TOUCH = (
    PREFIX
    + """
redis.call('SET', P .. 'touched', '')
return 1
"""
)
"Writes something, so that a WAIT behind it waits for all that was written before, by whatever connection."

EXPIRE = (
    PREFIX
    + CLOCK
    + TELL
    + """
local due = redis.call('ZRANGEBYSCORE', P .. 'due:' .. ARGV[2], '-inf', string.format('%.6f', now), 'LIMIT', 0, ARGV[3])
local gone, changed = {}, {}
for _, key in ipairs(due) do
  local value = redis.call('GET', P .. 'r:' .. key)
  redis.call('ZREM', P .. 'due:' .. ARGV[2], key)
  redis.call('DEL', P .. 'r:' .. key)
  gone[#gone + 1] = key
  gone[#gone + 1] = value or ''
  changed[#changed + 1] = 'r'
  changed[#changed + 1] = key
  local aor = string.match(string.sub(key, #ARGV[2] + 2), '^[^|]*')
  redis.call('SREM', P .. 'aor:' .. aor, key)
end
tell(changed, ARGV[4])
if redis.call('EXISTS', P .. 'due:' .. ARGV[2]) == 0 then redis.call('SREM', P .. 'profiles', ARGV[2]) end
return gone
"""
)
"Prefix, profile, how many at most, length of the feed. Returns keys and values of those past due, which are gone now."

CALL_BY_ID = (
    PREFIX
    + CLOCK
    + CALLS
    + """
local found
for _, uuid in ipairs(redis.call('HKEYS', P .. 'id:' .. ARGV[2])) do
  local value = redis.call('GET', P .. 'c:' .. uuid)
  if not value then
    redis.call('HDEL', P .. 'id:' .. ARGV[2], uuid)
  else
    local is = summary(value)
    if is[3] then return value end
    if is[5] > now then found = value end
  end
end
return found
"""
)
"Prefix, Call-ID. Returns the live call, else one whose tombstone is not past due."

SWEEP = (
    PREFIX
    + CLOCK
    + CALLS
    + """
local due = redis.call('ZRANGEBYSCORE', P .. 'tombs', '-inf', string.format('%.6f', now), 'LIMIT', 0, ARGV[2])
local dropped = 0
for _, uuid in ipairs(due) do
  local value = redis.call('GET', P .. 'c:' .. uuid)
  if value then
    drop(uuid, value)
    dropped = dropped + 1
  end
  redis.call('ZREM', P .. 'tombs', uuid)
end
return {#due, dropped}
"""
)
"Prefix, how many at most. Returns how many were past due, and how many of them there were to be dropped."

FLUSH = (
    PREFIX
    + CALLS
    + """
local dropped = 0
for n = 4, #ARGV do
  local value = redis.call('GET', P .. 'c:' .. ARGV[n])
  if value and (ARGV[2] == '' or summary(value)[4] == ARGV[3]) then
    drop(ARGV[n], value)
    dropped = dropped + 1
  end
end
return dropped
"""
)
"Prefix, anything for one profile, that profile, then the calls. Returns how many were dropped."

CHANGES = (
    PREFIX
    + """
local feed = P .. 'feed'
if ARGV[2] == '' then
  local last = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)
  if #last > 0 then return {last[1][1], last[1][1]} end
  local id = redis.call('XADD', feed, '*', '-', '')
  return {id, id}
end
local entries = redis.call('XRANGE', feed, ARGV[2], '+', 'COUNT', ARGV[3])
if #entries == 0 or entries[1][1] ~= ARGV[2] then return false end
local last = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)
local answer, seen = {entries[#entries][1], last[1][1]}, {}
for n = 2, #entries do
  local fields = entries[n][2]
  for k = 1, #fields, 2 do
    local key = fields[k + 1]
    if fields[k] == 'r' and not seen[key] then
      seen[key] = true
      answer[#answer + 1] = key
      answer[#answer + 1] = redis.call('GET', P .. 'r:' .. key) or ''
    end
  end
end
return answer
"""
)
"""Prefix, watermark or nothing, entries at most. Returns the new watermark, the newest there is, then key and value of
each registration that changed; nothing if the feed does not reach back to the watermark.
"""

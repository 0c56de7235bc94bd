// A browser's phone without a browser: registers over WebSocket, calls and is called, and says what happens, one line an event.
//
//     node phone.js wss://127.0.0.1:7443 1000 domain password
//
// Lines on its standard input: `options URI`, `call URI [plain|webrtc]`, `hold`, `unhold`, `bye` (hangs up, cancels or
// refuses), `accept`; `on ring` and `on refuse` say what becomes of calls that come in. NODE_EXTRA_CA_CERTS names whom it trusts.

const { PeerConnection } = require('./media')

global.WebSocket = require('ws')
global.window = global
global.RTCPeerConnection = PeerConnection
global.RTCSessionDescription = class {
  constructor(description) {
    Object.assign(this, description)
  }
}

const JsSIP = require('jssip')
const [url, user, domain, password] = process.argv.slice(2)

const say = (event, more = '') => console.log(`${event} ${more}`.trim())
const phone = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(url)],
  uri: `sip:${user}@${domain}`,
  password,
  register_expires: 300,
  session_timers: false,
  connection_recovery_min_interval: 1,
  connection_recovery_max_interval: 1,
})

// No tracks: what would be heard is nobody's business here.
const stream = { getTracks: () => [], getAudioTracks: () => [], getVideoTracks: () => [] }
const media = (kind) => ({ mediaStream: stream, pcConfig: { kind } })
let incoming = 'refuse'
let call = null

phone.on('connected', () => say('connected'))
phone.on('disconnected', () => say('disconnected'))
phone.on('registered', ({ response }) => say('registered', response.status_code))
phone.on('registrationFailed', ({ cause }) => say('refused', cause))
phone.on('newRTCSession', ({ originator, session, request }) => {
  call = session
  session.on('progress', ({ response }) => response && say('ringing', response.status_code))
  session.on('confirmed', () => say('talking'))
  session.on('hold', ({ originator: who }) => who === 'remote' && say('held', who))
  session.on('unhold', ({ originator: who }) => who === 'remote' && say('taken back', who))
  session.on('failed', ({ originator: who, message }) => {
    const warning = (message && message.getHeader && message.getHeader('Warning')) || ''
    say('failed', `${who} ${(message && message.status_code) || ''} ${warning}`)
  })
  session.on('ended', (event) => say('ended', event.originator))
  if (originator !== 'remote') return
  say('called', `${originator} by ${request.from.uri.user} ${request.via.transport || ''}`)
  if (incoming === 'refuse') session.terminate({ status_code: 486 })
})

// What JsSIP does not do while another offer is under way is asked for again.
const insist = (act) => act() || setTimeout(() => insist(act), 20)

const words = {
  options: (uri) =>
    phone.sendOptions(uri, null, {
      eventHandlers: {
        succeeded: ({ response }) => say('options', response.status_code),
        failed: ({ cause }) => say('options', cause),
      },
    }),
  call: (uri, kind = 'plain') => phone.call(uri, media(kind)),
  accept: () => call.answer(media('plain')),
  hold: () => insist(() => call.hold({}, () => say('held', 'local'))),
  unhold: () => insist(() => call.unhold({}, () => say('taken back', 'local'))),
  bye: () => call.terminate(),
  on: (what) => {
    incoming = what
  },
}

require('readline')
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [word, ...rest] = line.trim().split(' ')
    words[word](...rest)
  })
  .on('close', () => phone.stop())
phone.start()

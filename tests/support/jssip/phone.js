// A browser's phone without a browser: registers over WebSocket, refuses calls, and says what happens, one line an event.
//
//     node phone.js wss://127.0.0.1:7443 1000 domain password
//
// A line on its standard input is the address that an OPTIONS is sent to. NODE_EXTRA_CA_CERTS names whom it trusts.

global.WebSocket = require('ws')
// Calls are not answered here, but without these names they would not even be offered.
global.window = global
global.RTCPeerConnection = class {}

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

phone.on('connected', () => say('connected'))
phone.on('disconnected', () => say('disconnected'))
phone.on('registered', ({ response }) => say('registered', response.status_code))
phone.on('registrationFailed', ({ cause }) => say('refused', cause))
phone.on('newRTCSession', ({ originator, session, request }) => {
  say('called', `${originator} by ${request.from.uri.user} ${request.via.transport || ''}`)
  session.terminate({ status_code: 486 })
})
process.stdin.on('data', (line) => {
  phone.sendOptions(line.toString().trim(), null, {
    eventHandlers: {
      succeeded: ({ response }) => say('options', response.status_code),
      failed: ({ cause }) => say('options', cause),
    },
  })
})
process.stdin.on('end', () => phone.stop())
phone.start()

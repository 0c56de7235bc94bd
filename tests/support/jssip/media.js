// The media of a browser, without a browser: enough of RTCPeerConnection for JsSIP to make its calls. What it offers and
// answers is text; nothing is sent.
//
// `plain`: audio as a telephone has it. `webrtc`: audio as a browser has it, DTLS-SRTP with ICE (RFC 8827).

const PLAIN = ['m=audio 40000 RTP/AVP 0 8', 'c=IN IP4 127.0.0.1', 'a=rtpmap:0 PCMU/8000', 'a=rtpmap:8 PCMA/8000']
const WEBRTC = [
  'm=audio 9 UDP/TLS/RTP/SAVPF 111 0',
  'c=IN IP4 0.0.0.0',
  'a=rtcp:9 IN IP4 0.0.0.0',
  'a=ice-ufrag:4ZcD',
  'a=ice-pwd:2QaQ9wP8pXnYb7pGPwGyWnTy',
  'a=fingerprint:sha-256 ' + Array(32).fill('7A').join(':'),
  'a=setup:actpass',
  'a=mid:0',
  'a=rtcp-mux',
  'a=rtpmap:111 opus/48000/2',
  'a=rtpmap:0 PCMU/8000',
]

class PeerConnection {
  constructor({ kind = 'plain' } = {}) {
    this.lines = kind === 'webrtc' ? WEBRTC : PLAIN
    this.version = 0
    this.direction = 'sendrecv'
    this.iceGatheringState = 'complete'
    this.signalingState = 'stable'
    this.localDescription = this.remoteDescription = null
  }

  async description(type) {
    this.version += 1
    const head = ['v=0', `o=- 4711 ${this.version} IN IP4 127.0.0.1`, 's=-', 't=0 0']
    return { type, sdp: [...head, ...this.lines, `a=${this.direction}`, ''].join('\r\n') }
  }

  createOffer() {
    return this.description('offer')
  }

  createAnswer() {
    return this.description('answer')
  }

  async setLocalDescription(description) {
    this.localDescription = description
  }

  // A browser takes nothing but DTLS-SRTP; one of these takes what it would offer itself.
  async setRemoteDescription(description) {
    const secure = description.sdp.includes('UDP/TLS/RTP/SAVPF')
    if (secure !== (this.lines === WEBRTC)) throw new Error('media of another kind')
    this.remoteDescription = description
  }

  addEventListener() {}
  removeEventListener() {}
  addTrack() {}

  getSenders() {
    return []
  }

  close() {
    this.signalingState = 'closed'
  }
}

module.exports = { PeerConnection }

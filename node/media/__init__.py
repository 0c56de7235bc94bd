"""RTP: what is said about it (SDP), what carries it (the media process), and how a worker asks for it.

Read in this order: `sdp` and `negotiation` (pure: session descriptions in, session descriptions out), `control` (what
a worker and the media process say to each other), `session` (the worker's side: `MediaClient`), then the media
process: `server` (the loop and the orders), `relay` (legs and their sockets: the hot path), `ports`, `playback`
with `wave`, `tones` and `g711`, and `dtmf`.
"""

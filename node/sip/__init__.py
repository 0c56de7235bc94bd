"""The SIP stack, sans I/O: nothing here reads a clock, opens a socket or waits.

Read in this order: `errors`, `flow`, `token`; `grammar`, `uri`, `fields`, `message`, `compose`, `framing` (messages);
`timers`, `wheel`, `machine`, `tables`, `transaction`, `layer` (transactions, RFC 3261 17); `dialog` (RFC 3261 12);
`auth` (digest, RFC 7616 and 8760).
"""

"""Shared state: what both nodes must know, and how it reaches the store without ever making SIP wait.

Read in this order: `records` (what is kept), `interface` (what a backend can do), `writer` (group commit, deadlines),
`journal` (what could not be committed), then the backends `memory` and `sql`.
"""

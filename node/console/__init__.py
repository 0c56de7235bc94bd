"""The operator's side: the event socket with FreeSWITCH's commands, and the `sofia` command line.

Read in this order: `protocol` (framing), `session` (one client), `format` (events and tables as text), `commands`
(one file a family), `workers` (the inquiries), `server` (the process that puts them together), `cli` (the client).
"""

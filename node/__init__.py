"""The engine: what runs in the processes that the supervisor forks.

Read in this order: `sip` (the stack, sans I/O), `transport` (its driver on sockets), `registrar`, `calls`, `media`,
`console`, and `worker`, where they are wired together. `config`, `link`, `events` and `log` are what all of them use.
"""

"""The store in Redis: one server, or one behind Sentinel; not a cluster.

Reading order: `dsn` (where it is), `scripts` (what lies there, and every rule that must hold at once), `rows` (records to
values and back), `connection` (the driver, its deadlines and errors), `recent` (what a failover may have lost), `store`.
"""

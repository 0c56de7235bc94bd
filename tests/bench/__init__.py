"""What a unit of work costs: CPU time of our processes, beside a peer's in the same run on the same machine.

`python -m tests.bench` prints a table and writes `tests/bench/results.json`. Nothing passes or fails by the clock here.
"""

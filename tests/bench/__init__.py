"""What a unit of work costs: CPU time of our processes, beside a peer's in the same run on the same machine.

    make bench                              all of it, about two and a half minutes
    python -m tests.bench --only call       one part; more than one --only may be given

prints a table and writes `tests/bench/results.json`. Nothing passes or fails by the clock here. How to read a figure:

* CPU is the kernel's own count over all threads and processes of the node (or the peer), divided by units of work. It
  holds on a busy machine far better than time on the clock does, yet a shared cache and a shared core cost: believe the
  ratio, which compares two things of the same minute, more than either number, and neither to better than a tenth.
* Work done at a trickle costs two to four times what it costs at load, as each message wakes a process. Each peer is
  therefore measured at the rate that we are measured at.
* `ratio` above 1 means that we need less than the peer does. Where the two do not do the same, the note says so.
* On loopback the sender of a datagram pays for its delivery as well, in place of the driver of a network card.
"""

"""What the store can refuse, and what can go wrong on the way to it.

StoreError
├── Unavailable          gone, hung, or it cannot write: go on from memory, journal, try again later
│   ├── Busy             others held its lock for longer than we wait
│   │   └── Crosswise    we and others waited for each other, or may have; it has undone what we did
│   ├── ReadOnly         it may not be written
│   ├── Full             there is no room left on its disk
│   └── Damaged          it is no database, or a broken one
├── Refused              this one write is unacceptable; the store itself is well
├── Fenced               the epoch is older than the slot's fence: somebody else is the owner now
├── LeaseLost            somebody else holds the lease, or nobody
├── SchemaTooNew         a newer release has changed the tables
└── UnknownStore         the DSN names no store that we have
"""

from __future__ import annotations


class StoreError(Exception):
    """Anything the store says no with. Its text is for the operator, and names the store."""


class Unavailable(StoreError):
    """The store did not do it, or nobody knows whether it did: the same write may be sent again."""


class Busy(Unavailable):
    pass


class Crosswise(Busy):
    pass


class ReadOnly(Unavailable):
    pass


class Full(Unavailable):
    pass


class Damaged(Unavailable):
    pass


class Refused(StoreError):
    pass


class Fenced(StoreError):
    def __init__(self, slot: str, epoch: int) -> None:
        super().__init__(f"epoch {epoch} of slot {slot} is over: a newer owner has been named")
        self.slot = slot
        self.epoch = epoch


class LeaseLost(StoreError):
    pass


class SchemaTooNew(StoreError):
    pass


class UnknownStore(StoreError):
    pass

"""The command `sofia-node`: what only asks a running node goes its own short way, without loading a node first."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ha import orders


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] and words[0] in orders.VERBS:
        return orders.main(words)
    # A third of a second: the time in which a standby is promoted.
    from ha import cli

    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main())

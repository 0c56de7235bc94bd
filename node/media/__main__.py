"""The media process, as a child of the supervisor, or alone: `python -m node.media --socket PATH`."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from node.link import Link, Ready
from node.media.ports import raise_descriptor_limit
from node.media.server import Server

if TYPE_CHECKING:
    from node.config import Configuration
    from node.config.identity import Identity


def main(link: Link, identity: Identity, configuration: Configuration, run_dir: Path) -> None:
    """Serve until the supervisor is gone, or demotes us."""
    ha = configuration.ha
    foreign = ha.shared_address.partition("/")[0] if ha.address_mode == "netlink" else ""
    server = prepare(run_dir / "media", link, foreign)
    go_first()
    link.send(Ready(os.getpid()))
    try:
        server.run()
    finally:
        server.close()


def prepare(path: Path, link: Link | None = None, foreign: str = "") -> Server:
    raise_descriptor_limit()
    server = Server(path, link, foreign)
    # Hardly anything here is in a cycle; a full collection over thousands of legs would be heard.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    return server


def go_first() -> None:
    """Best effort: whatever else is busy here, a packet is not to wait for the processor; audio takes little of it."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


def alone() -> None:
    words = argparse.ArgumentParser(prog="python -m node.media", description=__doc__)
    words.add_argument("--socket", type=Path, required=True, metavar="PATH", help="the control socket to serve")
    path = words.parse_args().socket
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    server = prepare(path)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: server.stop())
    try:
        server.run()
    finally:
        server.close()
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    alone()

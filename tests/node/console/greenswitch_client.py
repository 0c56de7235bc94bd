"""Run by a test: greenswitch logs in, runs two commands, waits for one event, and prints what it got as JSON."""

import gevent.monkey

gevent.monkey.patch_all()

import json  # noqa: E402
import sys  # noqa: E402

import greenswitch  # noqa: E402
from gevent.event import AsyncResult  # noqa: E402

from tests.node.console.tree import PASSWORD  # noqa: E402


def main() -> None:
    heard: AsyncResult = AsyncResult()
    client = greenswitch.InboundESL(host="127.0.0.1", port=int(sys.argv[1]), password=PASSWORD)
    client.connect()
    client.register_handle("sofia::register", heard.set)
    version = client.send("api version").data
    count = client.send("api show channels count").data
    client.send("event plain CUSTOM sofia::register")
    headers = heard.get(timeout=25).headers
    client.stop()
    event = {"subclass": headers["Event-Subclass"], "from-user": headers["from-user"]}
    print(json.dumps({"version": version, "count": count, "event": event}))


if __name__ == "__main__":
    main()

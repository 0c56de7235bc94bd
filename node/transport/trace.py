"""The message trace of `sofia profile X siptrace on`, in FreeSWITCH's form, with the secrets masked."""

from __future__ import annotations

import re
import time
from typing import Literal

from node.sip.flow import Flow

RULE = "-" * 72

_SECRET = re.compile(rb'(?im)^((?:Proxy-)?Authorization\s*:[^\r\n]*?\bresponse\s*=\s*")[^"]*')
_KEY = re.compile(rb"(?im)^(a=crypto:[^\r\n]*?inline:)[^\r\n|;\s]*")


def traced(way: Literal["recv", "send"], data: bytes, flow: Flow, at: float) -> str:
    """One message as a line of the trace: the digest response and SDES keys are masked, the rest is verbatim."""
    clock = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1_000_000):06}"
    host, port = flow.remote
    preposition = "from" if way == "recv" else "to"
    text = _KEY.sub(rb"\1***", _SECRET.sub(rb"\1***", data)).decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    where = f"{flow.transport.lower()}/[{host}]:{port}"
    return f"{way} {len(data)} bytes {preposition} {where} at {clock}:\n{RULE}\n{text}"

"""A request that is no INVITE goes on to the next target (RFC 3263 4.3): a MESSAGE to a phone behind SRV records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.node.registrar.test_registrar import configured
from tests.node.rig import PhoneLine, Rig, rig
from tests.support.nameserver import NameServer
from tests.support.ports import free_port
from tests.support.sipmessage import Sip


@dataclass
class Scene:
    """A worker, whose phone 1001 is at a name; two servers for that name, the first one preferred; and an author."""

    node: Rig
    names: NameServer
    first: PhoneLine
    second: PhoneLine
    author: PhoneLine

    def write(self) -> None:
        to = {"To": "<sip:1001@pbx.test>", "Content-Type": "text/plain"}
        message = self.author.request("MESSAGE", "sip:1001@pbx.test", **to)
        message.body = "hello"
        self.author.send(message)


@contextmanager
def scene(folder: Path, **fields: object) -> Iterator[Scene]:
    with NameServer() as names, rig(folder, dns_servers=names.text) as node:
        configured(node, auth_messages=False, **fields)
        first, second, author = (node.phone("1001") for _ in range(3))
        author.user = "1000"
        names.zone["_sip._udp.example.org.", "SRV"] = [
            f"300 IN SRV {place} 1 {server.port} here.example.org." for place, server in enumerate((first, second), 1)
        ]
        names.zone["here.example.org.", "A"] = "300 IN A 127.0.0.1"
        assert first.register(Contact="<sip:1001@example.org>").status == 200
        yield Scene(node, names, first, second, author)


def taken(server: PhoneLine, message: Sip, status: int = 200) -> None:
    server.send(message.answer(status, "Said So", "theirs"))


def test_after_a_503_it_goes_on_and_from_then_on_straight_to_who_answers(tmp_path: Path) -> None:
    with scene(tmp_path, next_target_timeout=30_000) as here:
        here.write()
        refused = here.first.receive()
        taken(here.first, refused, 503)
        message = here.second.receive()
        assert (message.call_id, message.cseq, message.body) == (refused.call_id, refused.cseq, "hello")
        assert message.branch != refused.branch
        taken(here.second, message)
        assert here.author.receive().status == 200
        here.write()
        taken(here.second, here.second.receive())
        assert here.author.receive().status == 200
        assert here.first.silent()


def test_a_503_is_final_where_disable_srv503_says_so(tmp_path: Path) -> None:
    with scene(tmp_path, next_target_timeout=30_000, disable_srv503=True) as here:
        here.write()
        taken(here.first, here.first.receive(), 503)
        assert here.author.receive().status == 503
        assert here.second.silent()


def test_who_is_silent_is_left_and_not_asked_again(tmp_path: Path) -> None:
    with scene(tmp_path, next_target_timeout=700) as here:
        here.write()
        first = here.first.receive()
        taken(here.second, here.second.receive())
        assert here.author.receive().status == 200
        while not here.first.silent(1.5):  # what was repeated before the second was asked
            assert here.first.receive().branch == first.branch
        here.write()
        taken(here.second, here.second.receive())
        assert here.author.receive().status == 200


def test_who_refuses_tcp_is_left_at_once(tmp_path: Path) -> None:
    with scene(tmp_path, next_target_timeout=30_000) as here:
        here.names.zone["example.org.", "NAPTR"] = [
            '300 IN NAPTR 1 1 "s" "SIP+D2T" "" _sip._tcp.example.org.',
            '300 IN NAPTR 2 1 "s" "SIP+D2U" "" _sip._udp.example.org.',
        ]
        here.names.zone["_sip._tcp.example.org.", "SRV"] = f"300 IN SRV 1 1 {free_port()} here.example.org."
        here.write()
        taken(here.first, here.first.receive())
        assert here.author.receive().status == 200


def test_of_refusals_the_last_one_counts(tmp_path: Path) -> None:
    with scene(tmp_path, next_target_timeout=30_000) as here:
        here.write()
        taken(here.first, here.first.receive(), 503)
        taken(here.second, here.second.receive(), 486)
        assert here.author.receive().status == 486


def test_a_name_that_leads_nowhere_is_told_to_the_author(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        here.names.zone.clear()
        here.write()
        assert here.author.receive().status == 480

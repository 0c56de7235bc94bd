"""The gate of a real worker: what one source may send, who is not heard, and who goes first when there is too much."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.config.profile import ProfileSettings
from node.transport.gate import Gate
from node.transport.suspects import Suspects
from node.transport.udp import BATCH, SO_TIMESTAMPNS
from tests.node.rig import PhoneLine, Rig, rig, until
from tests.support.sipmessage import Sip

FORGED = "<sip:1001@pbx.test>;tag=internal.0-0123456789abcdef"


@contextmanager
def serving(folder: Path, **limits: object) -> Iterator[Rig]:
    """A worker whose profile has these limits."""
    with rig(folder) as node:
        node.change(**limits)
        node.serve()
        yield node


def phone_at(node: Rig, host: str, user: str = "1000") -> PhoneLine:
    """A phone with an address of its own."""
    line = node.phone(user)
    line.sock.close()
    line.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.sock.bind((host, 0))
    line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    line.host, line.port = line.sock.getsockname()
    return line


def stats(node: Rig) -> dict[str, int]:
    answer = node.ask("stats")
    assert isinstance(answer, dict)
    return answer


def answers(phone: PhoneLine) -> list[Sip]:
    """All that has come by now, or comes within a moment."""
    found = []
    while not phone.silent(0.3):
        found.append(phone.receive())
    return found


def log_of(node: Rig) -> str:
    return (node.run_dir / "log" / "sofia-node.log").read_text()


# ---- limits --------------------------------------------------------------------------------------------------------


def test_one_source_over_its_limit_is_refused_and_then_ignored_and_the_others_are_served(tmp_path: Path) -> None:
    with serving(tmp_path, max_source_requests_per_second=20) as node:
        vandal, phone = phone_at(node, "127.0.0.66"), phone_at(node, "127.0.0.9")
        for _ in range(200):
            vandal.send(vandal.request("OPTIONS"))
        assert phone.register().status == 200
        seen = [answer.status for answer in answers(vandal)]
        assert 40 <= seen.count(200) <= 80
        assert 1 <= seen.count(503) <= 20, "a flood is not answered for long"
        assert stats(node)["over_source_rate"] == 200 - seen.count(200)
        until(lambda: "more than max-source-requests-per-second from 127.0.0.66" in log_of(node))
        assert log_of(node).count("max-source-requests-per-second") == 1


def test_half_of_all_is_what_one_source_may_send_by_default(tmp_path: Path) -> None:
    with serving(tmp_path, max_recv_requests_per_second=40) as node:
        vandal = phone_at(node, "127.0.0.66")
        for _ in range(100):
            vandal.send(vandal.request("OPTIONS"))
        assert phone_at(node, "127.0.0.9").register().status == 200
        until(lambda: stats(node)["over_source_rate"] >= 40)


def test_what_is_in_a_dialog_may_go_on_to_twice_the_limit(tmp_path: Path) -> None:
    with serving(tmp_path, max_source_requests_per_second=20) as node:
        phone = phone_at(node, "127.0.0.9")
        for _ in range(60):
            phone.send(phone.request("OPTIONS"))
        until(lambda: stats(node)["over_source_rate"] > 0)
        answers(phone)
        assert phone.ask(phone.request("BYE", To=FORGED)).status == 481


def test_a_source_on_the_exempt_list_has_no_limit(tmp_path: Path) -> None:
    with serving(tmp_path, max_source_requests_per_second=5, limits_exempt_acl=("127.0.0.8/29",)) as node:
        proxy = phone_at(node, "127.0.0.9")
        for _ in range(100):
            proxy.send(proxy.request("OPTIONS"))
        until(lambda: stats(node)["received"] >= 100)
        assert [answer.status for answer in answers(proxy)] == [200] * 100


def test_who_guesses_passwords_is_not_heard_but_his_neighbour_with_the_right_one_is(tmp_path: Path) -> None:
    with serving(tmp_path, max_source_auth_failures=5) as node:
        honest = phone_at(node, "127.0.0.66", "1001")
        assert honest.register().status == 200
        thief = phone_at(node, "127.0.0.66")
        assert [thief.register(password="guess").status for _ in range(6)] == [403] * 6
        thief.send(thief.request("REGISTER"))
        assert thief.silent()
        assert honest.register().status == 200
        assert phone_at(node, "127.0.0.9").register().status == 200
        assert stats(node)["boxed"] >= 1
        until(lambda: "more than max-source-auth-failures from 127.0.0.66: not heard for 60 s" in log_of(node))


def test_responses_that_nobody_can_read_are_not_read_for_ever(tmp_path: Path) -> None:
    with serving(tmp_path, max_source_requests_per_second=20) as node:
        vandal = phone_at(node, "127.0.0.66")
        for _ in range(500):
            vandal.send(b"SIP/2.0 200 OK\r\n\r\n")
        assert phone_at(node, "127.0.0.9").register().status == 200
        assert 40 <= stats(node)["malformed"] <= 200


STARTS = (
    b"",
    b"SIP/2.0 200 OK\r\n",
    b"INVITE sip:x SIP/2.0\r\n",
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"\x00\x01\x00\x00",
)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_of_one_source_is_bounded_and_all_of_it_is_counted(tmp_path: Path, seed: int) -> None:
    """What is no SIP at all costs its source as much as what is."""
    dice = random.Random(seed)
    with serving(tmp_path, max_source_requests_per_second=20) as node:
        vandal, phone = phone_at(node, "127.0.0.66"), phone_at(node, "127.0.0.9")
        before = stats(node)
        sizes = [dice.choice((5, 20, 300, 1500, 8000)) for _ in range(600)]
        for size in sizes:
            vandal.send(dice.choice(STARTS) + dice.randbytes(size))
        assert phone.register().status == 200
        until(lambda: stats(node)["received"] - before["received"] >= len(sizes) + 2)
        now = stats(node)
        read = now["malformed"] - before["malformed"]
        assert read <= 4 * 20 + 80, (
            "two seconds of them, twice for what counts without having been asked, and what came meanwhile"
        )
        assert read + now["over_source_rate"] + now["shunned"] >= len(sizes) * 0.95
        assert len(answers(vandal)) <= 40


@pytest.mark.parametrize(
    ("limits", "fields", "uri", "status"),
    [
        ({"max_message_size": 1400}, {"X": "x" * 1500}, "sip:pbx.test", 513),
        ({"max_header_length": 400}, {"X": "x" * 500}, "sip:pbx.test", 513),
        ({"max_header_fields": 20}, {f"X{number}": "x" for number in range(20)}, "sip:pbx.test", 513),
        ({"max_uri_length": 100}, {}, "sip:pbx.test;p=" + "x" * 100, 414),
        ({"max_uri_params": 20}, {}, "sip:pbx.test" + ";p=1" * 30, 414),
        ({"max_uri_params": 20}, {}, "sip:pbx.test?Route=" + "%3Bq" * 30, 414),
    ],
)
def test_what_is_too_large_is_refused_and_a_byte_less_is_not(
    tmp_path: Path, limits: dict[str, int], fields: dict[str, str], uri: str, status: int
) -> None:
    with serving(tmp_path, **limits) as node:
        phone = node.phone()
        before = stats(node)["malformed"]
        for _ in range(3):
            assert phone.ask(phone.request("OPTIONS", uri, **fields)).status == status
        assert phone.ask(phone.request("OPTIONS")).status == 200
        assert stats(node)["malformed"] - before == 3
        until(lambda: "unreadable message from 127.0.0.1: " in log_of(node))
        assert log_of(node).count("unreadable message") == 1, "of one source once in a period"
    with serving(tmp_path / "without") as node:
        phone = node.phone()
        assert phone.ask(phone.request("OPTIONS", uri, **fields)).status == 200


def test_with_as_many_transactions_as_are_allowed_new_requests_get_503(tmp_path: Path) -> None:
    with serving(tmp_path, max_transactions=5) as node:
        phone = node.phone()
        for user in range(1000, 1008):
            if node.phone(str(user)).register().status == 503:
                break
        else:
            raise AssertionError("there was always room")
        answer = phone.ask(phone.request("OPTIONS"))
        assert (answer.status, answer.get("Retry-After")) == (503, "2")
        assert phone.ask(phone.request("BYE", To=FORGED)).status == 481
        assert stats(node)["full"] >= 2
        until(lambda: "more than max-transactions" in log_of(node))


def test_our_own_time_is_looked_at_as_stress_begins() -> None:
    """What others had of the processor before is no part of it: it would jump back, and no look at the rates be taken."""
    settings = ProfileSettings(name="internal", sip_ip="127.0.0.7", rtp_ip="127.0.0.7")
    gate = Gate(
        settings,
        send=lambda _data, _flow: None,
        knows=lambda _branch, _sent_by, _method: False,
        repeat=lambda _key, _flow: False,
        suspects=Suspects(),
        later=lambda _delay, _callback: None,
    )
    gate.others = lambda: 25.0
    gate.stress(100.0)
    assert gate.stolen == 25.0
    gate.others = lambda: 26.0
    gate.stress(100.1)
    assert gate.stolen == 25.0, "from then on whoever reads looks at it himself"


CROWD = 200
"Datagrams: more than are read before the stall is noticed, and not more than are read in one go thereafter on a slow machine."

# ---- overload ------------------------------------------------------------------------------------------------------


def stamps(sock: socket.socket, count: int, within: float = 10.0) -> list[tuple[int, float]]:
    """Status and kernel time of so many datagrams."""
    sock.settimeout(within)
    found = []
    for _ in range(count):
        data, ancillary, _, _ = sock.recvmsg(65535, 64)
        seconds = int.from_bytes(ancillary[0][2][:8], "little") + int.from_bytes(ancillary[0][2][8:16], "little") / 1e9
        found.append((int(data[8:11]), seconds))
    return found


def test_after_a_stall_what_is_in_a_dialog_is_answered_before_what_came_earlier(tmp_path: Path) -> None:
    with serving(tmp_path, max_recv_requests_per_second=0) as node:
        crowd, phone = phone_at(node, "127.0.0.66"), phone_at(node, "127.0.0.9")
        for each in (crowd, phone):
            each.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        pid = node.workers[0].process.pid
        os.kill(pid, signal.SIGSTOP)
        for _ in range(CROWD):
            crowd.send(crowd.request("OPTIONS"))
        # Refused for what it requires: whether there is such a call would be asked of the store, which has a pace of its own.
        phone.send(phone.request("BYE", To=FORGED, Require="nonsense"))
        os.kill(pid, signal.SIGCONT)
        ((status, at),) = stamps(phone.sock, 1)
        assert status == 420
        told = stamps(crowd.sock, CROWD)
        assert {status for status, _at in told} <= {200, 503}
        assert sum(moment > at for _status, moment in told) > CROWD / 4, "all but the first batch came earlier"
        assert stats(node)["waiting"] == 0


def test_credentials_for_a_challenge_are_taken_before_new_requests(tmp_path: Path) -> None:
    from tests.support.sipmessage import digest

    with serving(tmp_path, max_recv_requests_per_second=0) as node:
        crowd, phone = phone_at(node, "127.0.0.66"), phone_at(node, "127.0.0.9")
        for each in (crowd, phone):
            each.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        challenge = phone.ask(phone.request("REGISTER")).get("WWW-Authenticate")
        # Wrong ones: the answer waits for no store, which has a pace of its own.
        credentials = digest(challenge, "1000", "wrong", "REGISTER", "sip:pbx.test")
        pid = node.workers[0].process.pid
        os.kill(pid, signal.SIGSTOP)
        for _ in range(CROWD):
            crowd.send(crowd.request("REGISTER"))
        phone.send(phone.request("REGISTER", Authorization=credentials))
        os.kill(pid, signal.SIGCONT)
        ((status, at),) = stamps(phone.sock, 1)
        assert status == 403
        told = stamps(crowd.sock, CROWD)
        assert sum(moment > at for _status, moment in told) > CROWD / 4


def test_who_has_sent_copies_before_he_could_be_answered_is_answered_once(tmp_path: Path) -> None:
    """All but those of the first batch, which is read before the stall is noticed."""
    with serving(tmp_path, max_recv_requests_per_second=0) as node:
        crowd = phone_at(node, "127.0.0.66")
        pid = node.workers[0].process.pid
        os.kill(pid, signal.SIGSTOP)
        requests = [crowd.request("REGISTER") for _ in range(1500)]
        for each in requests * 2:
            crowd.send(each)
        os.kill(pid, signal.SIGCONT)
        told = [each.get("CSeq") for each in answers(crowd)]
        assert len({*told}) == 1500, "all are answered"
        assert len(told) <= 1500 + BATCH
        assert stats(node)["overload_copies"] > 0


def test_requests_that_lay_in_the_buffer_for_longer_than_anybody_waits_are_dropped(tmp_path: Path) -> None:
    """The first batch is read before the stall is noticed."""
    with serving(tmp_path, max_recv_requests_per_second=0) as node:
        crowd, phone = phone_at(node, "127.0.0.66"), phone_at(node, "127.0.0.9")
        pid = node.workers[0].process.pid
        os.kill(pid, signal.SIGSTOP)
        for _ in range(300):
            crowd.send(crowd.request("OPTIONS"))
        phone.silent(4.5)
        os.kill(pid, signal.SIGCONT)
        until(lambda: stats(node)["overload_stale"] > 0)
        assert stats(node)["overload_stale"] <= 300 - 64
        assert phone.ask(phone.request("OPTIONS")).status == 200

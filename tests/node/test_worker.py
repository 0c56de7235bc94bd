"""The worker process: promotion, registration, the end of a worker and its successor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha.process import Process
from node.link import Beat, Beaten, Demote, Fenced, Lease, Ready, Revived
from node.worker import SILENT, TOLD_WITHIN
from store.backends import open_store
from store.interface import Put, opened
from store.records import CallRecord, DialogRecord, LegRecord
from tests.node.calls.peer import OFFER
from tests.node.rig import PASSWORD, PhoneLine, Rig, Worker, media_process, rig, until
from tests.support.node import STRETCH
from tests.support.phone import Phone
from tests.support.sipmessage import Sip, digest


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


def test_a_promoted_worker_registers_a_phone(node: Rig) -> None:
    node.serve()
    phone = node.phone()
    answer = phone.register()
    assert answer.status == 200, answer
    assert answer.get("Contact") == f"<sip:1000@127.0.0.1:{phone.port}>;expires=300"
    assert answer.get("Date").endswith("GMT")


def test_a_registration_is_on_disk_when_it_is_answered(node: Rig) -> None:
    node.serve()
    assert node.phone().register().status == 200
    with sqlite3.connect(node.run_dir / "core.db") as db:
        rows = db.execute("select sip_user, sip_host, status from sip_registrations").fetchall()
    assert rows == [("1000", "pbx.test", "Registered(UDP)")]


def test_a_worker_is_ready_when_it_knows_the_stores_clock_or_has_waited_a_second_for_it(node: Rig) -> None:
    """Its own may be wrong, and what it would write by that was refused as older than what is stored."""
    node.spawn().demote()
    with contextlib.closing(sqlite3.connect(node.run_dir / "core.db", isolation_level=None)) as store:
        store.execute("DELETE FROM sofia_secrets")
        store.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        waiting = Worker(node.configuration, node.run_dir)
        node.workers.append(waiting)
        waiting.wait(Ready)
        assert time.monotonic() - began > TOLD_WITHIN
        late = Worker(node.configuration, node.run_dir)
        node.workers.append(late)
        store.execute("ROLLBACK")
    late.wait(Ready)
    line = node.phone()
    node.promote(late)
    assert line.register().status == 200


def test_the_beat_is_answered_with_its_number(node: Rig) -> None:
    worker = node.spawn()
    worker.link.send(Beat(41))
    assert worker.wait(Beaten) == Beaten(41)


def test_a_spare_takes_the_place_of_a_killed_worker(node: Rig) -> None:
    first, spare = node.serve(), node.spawn()
    phone = node.phone()
    assert phone.register().status == 200
    first.kill()
    options = node.phone("1001")
    options.send(options.request("OPTIONS"))
    began = time.monotonic()
    node.promote(spare)
    assert options.receive().status == 200
    assert time.monotonic() - began < 0.5
    spare.wait(Revived)
    assert _contacts(node, phone) == [f"<sip:1000@127.0.0.1:{phone.port}>"]


def test_a_successor_still_takes_the_nonces_of_its_predecessor(node: Rig) -> None:
    first, spare = node.serve(), node.spawn()
    phone = node.phone()
    challenge = phone.ask(phone.request("REGISTER", Expires="60"))
    first.kill()
    node.promote(spare)
    credentials = digest(challenge.get("WWW-Authenticate"), "1000", "s3cret", "REGISTER", "sip:pbx.test")
    assert phone.ask(phone.request("REGISTER", Authorization=credentials, Expires="60")).status == 200


def test_a_repeated_register_after_a_failover_is_not_refused(node: Rig) -> None:
    first, spare = node.serve(), node.spawn()
    phone = node.phone()
    phone.register()
    first.kill()
    node.promote(spare)
    phone.cseq -= 1  # the very same request, whose answer was lost
    assert phone.register().status == 200


def test_a_worker_lets_go_when_the_supervisor_is_gone(node: Rig) -> None:
    worker = node.serve()
    worker.link.close()
    began = time.monotonic()
    os.waitpid(worker.process.pid, 0)
    worker.process.status = 0
    assert time.monotonic() - began < 1.0


def test_a_demoted_worker_answers_nothing_any_more(node: Rig) -> None:
    worker = node.serve()
    phone = node.phone()
    phone.register()
    worker.demote()
    phone.send(phone.request("OPTIONS"))
    assert phone.silent()


def test_a_worker_that_leaves_in_calm_answers_what_it_has_in_hand_and_reads_no_more(node: Rig) -> None:
    worker = node.serve()
    phone, other = node.phone(), node.phone("1001")
    challenge = phone.ask(phone.request("REGISTER")).get("WWW-Authenticate")
    credentials = digest(challenge, "1000", PASSWORD, "REGISTER", "sip:pbx.test")
    with sqlite3.connect(node.run_dir / "core.db", isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        before = node.ask("stats")["received"]  # type: ignore[index]
        phone.send(phone.request("REGISTER", Authorization=credentials, Expires="300"))
        until(lambda: node.ask("stats")["received"] > before)  # type: ignore[index]
        worker.link.send(Demote(reason="the peer takes over", within=5.0))
        until(lambda: not _reads(node, worker))
        other.send(other.request("OPTIONS"))
        db.execute("ROLLBACK")
    assert phone.receive().status == 200
    worker.wait_end()
    assert other.silent()
    with sqlite3.connect(node.run_dir / "core.db") as db:
        assert db.execute("select sip_user from sip_registrations").fetchall() == [("1000",)]


def _reads(node: Rig, worker: Worker) -> bool:
    """Has it not begun to leave yet?"""
    return "letting go: the peer takes over" not in node.log() and worker.process.status is None


def test_a_worker_that_hears_no_newer_lease_falls_silent_and_then_lets_go_by_itself(node: Rig) -> None:
    worker = node.serve()
    worker.link.send(Lease(time.monotonic() + 0.3))
    began = time.monotonic()
    phone = node.phone()
    assert phone.silent(0.4)
    phone.send(phone.request("OPTIONS"))
    assert phone.silent(1.0)
    worker.wait_end()
    assert time.monotonic() - began > 0.3 + SILENT


def test_a_worker_whose_lease_is_renewed_late_answers_what_came_meanwhile(node: Rig) -> None:
    worker = node.serve()
    worker.link.send(Lease(time.monotonic() + 0.2))
    phone = node.phone()
    assert phone.silent(0.3)
    phone.send(phone.request("OPTIONS"))
    assert phone.silent(0.3)
    worker.link.send(Lease(time.monotonic() + 60))
    assert phone.receive().status == 200
    assert phone.ask(phone.request("OPTIONS")).status == 200


def test_each_newer_lease_prolongs_the_time(node: Rig) -> None:
    worker = node.serve()
    worker.link.send(Lease(time.monotonic() + 0.2))
    worker.link.send(Lease(time.monotonic() + 60))
    phone = node.phone()
    assert phone.silent(0.4)
    assert phone.ask(phone.request("OPTIONS")).status == 200


def test_a_fenced_write_is_told_and_not_answered(node: Rig) -> None:
    worker = node.serve()
    phone = node.phone()
    challenge = phone.ask(phone.request("REGISTER", Expires="60"))
    with opened(open_store(f"sqlite://{node.run_dir / 'core.db'}")) as store:
        while store.raise_fence("internal#0") <= node.epoch:
            pass
    credentials = digest(challenge.get("WWW-Authenticate"), "1000", "s3cret", "REGISTER", "sip:pbx.test")
    phone.send(phone.request("REGISTER", Authorization=credentials, Expires="60"))
    fenced = worker.wait(Fenced)
    assert isinstance(fenced, Fenced)
    assert fenced.slot == "internal#0"
    assert phone.silent()


def test_a_fenced_register_by_a_connection_is_refused_and_may_come_again(node: Rig) -> None:
    node.serve()
    phone = node.phone()
    with socket.create_connection(node.tcp, timeout=10 * STRETCH) as connection:

        def ask(**headers: str) -> Sip:
            request = phone.request("REGISTER", Expires="60", **headers).encode()
            connection.sendall(request.replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP"))
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            return Sip.parse(answer)

        challenge = ask().get("WWW-Authenticate")
        with opened(open_store(f"sqlite://{node.run_dir / 'core.db'}")) as store:
            while store.raise_fence("internal#0") <= node.epoch:
                pass
        refusal = ask(Authorization=digest(challenge, "1000", "s3cret", "REGISTER", "sip:pbx.test"))
    assert refusal.status == 503
    assert refusal.get("Retry-After") == "1"


@pytest.mark.parametrize("extension", ["9196", "1001"])
def test_a_fenced_invite_by_a_connection_is_refused_and_may_come_again(
    node: Rig, media: Process, extension: str
) -> None:
    """Be it answered by the node or passed on: nobody but its caller ever hears of it."""
    worker = node.serve()
    caller, callee = node.phone(), node.phone("1001")
    assert callee.register().status == 200
    with socket.create_connection(node.tcp, timeout=10 * STRETCH) as connection:

        def send(method: str, **headers: str) -> None:
            headers |= {"To": f"<sip:{extension}@pbx.test>", "Content-Type": "application/sdp"}
            request = caller.request(method, f"sip:{extension}@pbx.test", **headers)
            request.body = OFFER
            connection.sendall(request.encode().replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP"))

        def hear() -> Sip:
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            return Sip.parse(answer)

        send("INVITE")
        challenge = hear()
        assert challenge.status == 407
        with opened(open_store(f"sqlite://{node.run_dir / 'core.db'}")) as store:
            while store.raise_fence("internal#0") <= node.epoch:
                pass
        value = digest(challenge.get("Proxy-Authenticate"), "1000", "s3cret", "INVITE", f"sip:{extension}@pbx.test")
        send("INVITE", Proxy_Authorization=value)
        refusal = hear()
    assert refusal.status == 503
    assert refusal.get("Retry-After") == "1"
    assert isinstance(worker.wait(Fenced), Fenced)
    assert callee.silent()
    until(lambda: channels(node) == [])


def test_a_bye_again_gets_200_from_the_tombstone(node: Rig) -> None:
    call = call_record("ended", "dead-call")
    with opened(open_store(f"sqlite://{node.run_dir / 'core.db'}")) as store:
        store.commit([Put(call)])
    node.serve()
    phone = node.phone()
    bye = phone.request("BYE", To="<sip:1001@pbx.test>;tag=internal.0-00000000000000aa", Call_ID="dead-call")
    assert phone.ask(bye).status == 200


def test_an_unknown_dialog_is_answered_481_only_after_the_store_was_asked(node: Rig) -> None:
    node.serve()
    phone = node.phone()
    bye = phone.request("BYE", To="<sip:1001@pbx.test>;tag=internal.0-00000000000000aa")
    answer = phone.ask(bye)
    assert (answer.status, answer.start.split(" ", 2)[2]) == (481, "Call Does Not Exist")


def test_rescan_reads_the_directory_again(node: Rig) -> None:
    worker = node.serve()
    assert worker.instruct("rescan").text == ""
    assert node.phone().register().status == 200


def test_standby_refuses_what_is_new(node: Rig) -> None:
    worker = node.serve()
    worker.instruct("standby", "on")
    phone = node.phone()
    answer = phone.register()
    assert (answer.status, answer.start.split(" ", 2)[2]) == (503, "System Paused")
    worker.instruct("standby", "off", "internal")
    assert phone.register().status == 200


def test_the_console_reads_counters_and_registrations(node: Rig) -> None:
    node.serve()
    phone = node.phone()
    phone.register()
    profile = node.ask("profile", "internal")
    assert isinstance(profile, dict)
    assert (profile["registers"], profile["challenged"], profile["calls_in"]) == (2, 1, 0)
    registrations = node.ask("registrations", "internal")
    assert isinstance(registrations, list)
    assert [each["sip_user"] for each in registrations] == ["1000"]
    stats = node.ask("stats")
    assert isinstance(stats, dict)
    assert stats["registered"] == 1


def test_an_unknown_verb_is_refused_in_words(node: Rig) -> None:
    node.serve()
    with pytest.raises(AssertionError, match="unknown verb dance"):
        node.ask("dance")


def test_the_store_may_be_gone_and_phones_register_all_the_same(tmp_path: Path) -> None:
    with rig(tmp_path, core_db_dsn=f"sqlite://{tmp_path / 'nowhere' / 'file' / 'core.db'}") as node:
        (tmp_path / "nowhere").write_text("a file where a folder should be")
        node.promote(node.spawn())
        phone = node.phone()
        answer = phone.register()
        assert answer.status == 200
        assert answer.get("Contact").endswith("expires=300")


def _contacts(node: Rig, phone: PhoneLine) -> list[str]:
    """The bindings as a query by the same user shows them."""
    answer = phone.register(expires="", Contact="")
    assert answer.status == 200, answer
    return [value.partition(";expires")[0] for value in answer.all("Contact")]


def call_record(
    state: str, call_id: str, *, slot: str = "internal#0", tag: str = "internal.0-00000000000000aa"
) -> CallRecord:
    """A call as the store has it, with one leg whose dialog has this tag."""
    leg = LegRecord(
        uuid="u1",
        direction="inbound",
        profile="internal",
        state="answered",
        dialog=DialogRecord(call_id=call_id, local_tag=tag, remote_tag="x"),
    )
    expires = time.time() + 60
    return CallRecord(uuid="u1", state=state, legs=[leg], slot=slot, epoch=1, version=1, expires=expires)  # type: ignore[arg-type]


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def media(node: Rig) -> Iterator[Process]:
    with media_process(node) as process:
        yield process


def channels(node: Rig) -> list[dict[str, str]]:
    answer = node.ask("channels")
    assert isinstance(answer, list)
    return answer


async def _succeed(node: Rig, fallen: Worker, spare: Worker) -> Revived:
    fallen.kill()
    node.promote(spare)
    revived = spare.wait(Revived)
    assert isinstance(revived, Revived)
    return revived


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may go first")
def test_audio_goes_before_everything_else_that_the_node_does(node: Rig, media: Process) -> None:
    worker = node.serve()
    assert os.getpriority(os.PRIO_PROCESS, media.pid) < os.getpriority(os.PRIO_PROCESS, worker.process.pid)


def test_calls_are_said_to_be_here_when_their_relays_are(node: Rig, media: Process) -> None:
    """Who has waited with the shared address for them takes it then. SIP waits for nothing."""
    first, spare = node.serve(), node.spawn()

    async def scenario() -> None:
        async with _phone("1000", node) as alice, _phone("1001", node) as bob:
            await alice.register()
            await bob.register()
            line = await alice.call("1001")
            await bob.answer_next()
            async with asyncio.timeout(5):
                await line.answered.wait()
            first.kill()
            os.kill(media.pid, signal.SIGSTOP)
            try:
                node.promote(spare)
                until(lambda: len(channels(node)) == 2)
                with pytest.raises(AssertionError, match="never said Revived"):
                    spare.wait(Revived, within=0.2)
                assert (await line.reinvite()).status == 200
            finally:
                os.kill(media.pid, signal.SIGCONT)
            spare.wait(Revived)
            assert (await line.hangup()).status == 200

    asyncio.run(scenario())


def test_an_answered_call_outlives_its_worker(node: Rig, media: Process) -> None:
    first, spare = node.serve(), node.spawn()

    async def scenario() -> None:
        async with _phone("1000", node) as alice, _phone("1001", node) as bob:
            await alice.register()
            await bob.register()
            line = await alice.call("1001")
            await bob.answer_next()
            async with asyncio.timeout(5):
                await line.answered.wait()
            revived = await _succeed(node, first, spare)
            assert (revived.calls, revived.legs, revived.failed) == (1, 2, 0)
            assert len(channels(node)) == 2
            assert (await line.hangup()).status == 200

    asyncio.run(scenario())
    until(lambda: channels(node) == [])


def test_a_ringing_call_outlives_its_worker_and_is_answered(node: Rig, media: Process) -> None:
    first, spare = node.serve(), node.spawn()

    async def scenario() -> None:
        async with _phone("1000", node) as alice, _phone("1001", node) as bob:
            await alice.register()
            await bob.register()
            line = await alice.call("1001")
            callee = await bob.next_line()
            async with asyncio.timeout(5):
                await line.ringing.wait()
            until(lambda: [each.state for each in _stored(node)] == ["ringing"])
            await _succeed(node, first, spare)
            callee.answer()
            async with asyncio.timeout(5):
                await line.answered.wait()
            assert (await callee.hangup()).status == 200

    asyncio.run(scenario())


def _stored(node: Rig) -> list[CallRecord]:
    with opened(open_store(f"sqlite://{node.run_dir / 'core.db'}")) as store:
        return store.calls()


def _phone(user: str, node: Rig) -> Phone:
    return Phone(user, PASSWORD, node.udp, domain="pbx.test")

"""Pulses and profile watchdogs in a time of our own, and the probe on a real socket."""

from __future__ import annotations

import socket
import time

from ha.loop import Loop
from ha.probe import Probe, options
from ha.watchdog import EXCUSES, ProfileWatch, Pulse
from tests.support.node import STRETCH


def test_a_beat_that_is_answered_in_time_is_no_news():
    pulse = Pulse(1.0, 0.0)
    for tick in range(100):
        now = tick * 0.05
        number = pulse.beat(now)
        assert pulse.judge(now) == ""
        pulse.beaten(number)


def test_silence_counts_from_the_oldest_unanswered_beat():
    pulse = Pulse(1.0, 0.0)
    pulse.beaten(pulse.beat(5.0))
    for tick in range(1, 21):
        pulse.beat(5.0 + tick * 0.05)
    assert pulse.judge(6.04) == ""
    assert pulse.judge(6.07) == "no answer to a beat for 1020 ms"


def test_one_answer_will_do_for_all_beats_before_it():
    pulse = Pulse(1.0, 0.0)
    first = pulse.beat(5.0)
    pulse.beat(5.5)
    pulse.beaten(first)
    assert pulse.judge(6.4) == ""


def test_a_child_that_never_becomes_ready_is_found_too():
    pulse = Pulse(30.0, 100.0)
    assert pulse.judge(129.0) == ""
    assert pulse.judge(131.0) == "not ready 31.0 s after its start"


def test_a_judge_who_stood_still_forgives():
    pulse = Pulse(1.0, 0.0)
    pulse.beat(5.0)
    pulse.forgive(65.0)
    assert pulse.judge(65.5) == ""


def test_an_armed_watchdog_fails_only_without_answers():
    watch = ProfileWatch(event_timeout=30.0)
    assert not watch.fails(1000.0)
    watch.arm(1000.0)
    assert not watch.fails(1030.0)
    assert watch.fails(1030.1)
    watch.answered_at = 1029.0
    assert not watch.fails(1058.0)
    watch.disarm()
    assert not watch.fails(2000.0)


def test_a_timeout_of_nothing_turns_the_check_off():
    watch = ProfileWatch(event_timeout=0.0)
    watch.arm(0.0)
    assert not watch.fails(1e9)


def test_new_workers_are_the_first_remedy_and_the_role_the_second():
    watch = ProfileWatch(event_timeout=1.0)
    watch.arm(0.0)
    assert watch.remedied(10.0)
    assert not watch.remedied(12.0)
    assert watch.remedied(200.0), "what was long ago is forgiven"


def silenced(waited: float) -> Pulse:
    """A child that has not answered for a second, of which it waited so long for a processor."""
    clock = [0.0]
    pulse = Pulse(1.0, 0.0, waited=lambda: clock[0])
    pulse.beaten(pulse.beat(0.0))
    pulse.beat(0.1)
    for step in range(2, 11):
        clock[0] = waited * step / 10
        assert pulse.judge(step / 10) == ""
    return pulse


def test_who_only_waits_for_a_processor_is_not_frozen():
    assert silenced(0.9).judge(1.15) == ""
    assert silenced(0.0).judge(1.15) == "no answer to a beat for 1050 ms"
    assert silenced(0.3).judge(1.15) == "no answer to a beat for 1050 ms"


def test_not_even_the_starved_are_excused_for_ever():
    now, pulse = 0.0, Pulse(1.0, 0.0)
    pulse.waited = lambda: now
    pulse.beat(now)
    while not (why := pulse.judge(now)) and now < 60:
        now += 0.05
        if pulse.answered == pulse.sent:
            pulse.beat(now)
    assert why.startswith("no answer to a beat for")
    assert EXCUSES < now < EXCUSES + 2


def test_an_answer_begins_it_all_anew():
    pulse = silenced(0.9)
    pulse.judge(1.15)
    assert pulse.excuses == 1
    pulse.beaten(pulse.beat(1.2))
    assert pulse.excuses == 0
    assert pulse.judge(5.0) == ""


def test_probes_are_several_within_the_limit():
    assert ProfileWatch(event_timeout=30.0).probe_every == 5.0
    assert ProfileWatch(event_timeout=2.0).probe_every == 0.5
    assert ProfileWatch(event_timeout=0.4).probe_every == 0.25


def test_a_probe_hears_any_answer_but_only_to_its_own_question():
    loop, answered = Loop(), []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(2)
        probe = Probe(loop, server.getsockname(), lambda: answered.append(1))
        probe.send()
        request, source = server.recvfrom(4096)
        assert request.startswith(f"OPTIONS sip:127.0.0.1:{server.getsockname()[1]} SIP/2.0\r\n".encode())
        call_id = next(line for line in request.split(b"\r\n") if line.startswith(b"Call-ID"))
        server.sendto(b"SIP/2.0 200 OK\r\nCall-ID: another\r\n\r\n", source)
        loop.turn(0.05)
        assert not answered
        server.sendto(b"SIP/2.0 503 Busy\r\n" + call_id + b"\r\n\r\n", source)
        ends = time.monotonic() + 2 * STRETCH
        while not answered and time.monotonic() < ends:
            loop.turn(0.05)
        assert answered == [1]
        probe.close()


def test_a_probe_to_nowhere_is_no_error():
    probe = Probe(Loop(), ("127.0.0.1", 1), lambda: None)
    probe.send()
    probe.send()
    probe.close()


def test_a_probe_is_a_whole_request():
    request = options(("::1", 1024), ("2001:db8::1", 5060), "x@probe")
    head = request.decode().split("\r\n")
    assert head[0] == "OPTIONS sip:[2001:db8::1]:5060 SIP/2.0"
    assert head[1].startswith("Via: SIP/2.0/UDP [::1]:1024;rport;branch=z9hG4bK")
    assert head[-2:] == ["", ""]

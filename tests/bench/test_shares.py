"""What py-spy saw is charged to the part of the code that was at work."""

from __future__ import annotations

from tests.bench.shares import part_of_stack, shares

MAIN = "process 7 (sofia);main (/x/ha/process.py:1);main (/x/node/worker.py:72)"


def test_a_look_counts_for_the_innermost_function_of_our_own() -> None:
    assert part_of_stack(f"{MAIN};drain (/x/node/transport/udp.py:8);parse (/x/node/sip/message.py:9)") == "parser"
    assert part_of_stack(f"{MAIN};on_register (/x/node/registrar/registrar.py:8)") == "registrar"
    assert part_of_stack(f"{MAIN};receive (/x/node/sip/layer.py:8)") == "transactions"


def test_the_standard_library_is_charged_to_who_called_it() -> None:
    stack = f"{MAIN};say (/x/node/log.py:8);info (/usr/lib/python3.11/logging/__init__.py:9)"
    assert part_of_stack(stack) == "logging"


def test_what_nobody_of_ours_called_is_the_loop() -> None:
    assert part_of_stack(MAIN) == "loop"
    assert part_of_stack(f"{MAIN};_run_once (/usr/lib/python3.11/asyncio/base_events.py:9)") == "loop"


def test_a_thread_that_sleeps_takes_no_share() -> None:
    thread = "thread (8): store-writer;Committer._live (/x/store/committer.py:170)"
    waiting = f"{thread};Queue._sleep (/x/store/pending.py:180);Bell.wait (/x/store/pending.py:75)"
    looks = f"{MAIN};parse (/x/node/sip/message.py:9) 10\n{waiting} 90\n{thread};commit (/x/store/memory.py:9) 10\n"
    assert shares(looks) == {"parser": 0.5, "store": 0.5}


def test_shares_are_of_all_looks_and_make_one() -> None:
    looks = f"{MAIN};put (/x/store/writer.py:1) 30\n{MAIN};parse (/x/node/sip/message.py:9) 10\n{MAIN} 60\n"
    assert shares(looks) == {"store": 0.3, "parser": 0.1, "loop": 0.6}

from pathlib import Path

import pytest

from node.config import host, load
from tests.node.config.tree import plant
from tests.support.stun import StunServer, coturn


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another test asked for is not known."""
    monkeypatch.setattr(host, "_known", {})
    monkeypatch.setattr(host, "_failed", {})


def test_a_stun_server_tells_how_the_world_sees_us() -> None:
    with coturn() as port:
        assert host.resolve(f"stun:127.0.0.1:{port}") == "127.0.0.1"


def test_a_name_tells_its_address() -> None:
    assert host.resolve("host:127.0.0.9") == "127.0.0.9"
    assert host.resolve("host:localhost") == "127.0.0.1"


def test_anything_else_is_refused() -> None:
    for text in ("example.org", "stun:", "stun:x:y", "host:"):
        with pytest.raises(OSError, match="must"):
            host.resolve(text)


def test_a_lost_question_is_asked_again() -> None:
    with StunServer() as server:
        server.deaf = 1
        assert host.resolve(f"stun:127.0.0.1:{server.port}") == "203.0.113.5"
        assert len(server.requests) == 2
        assert server.requests[0] == server.requests[1], "the same transaction"


def test_an_answer_to_another_request_is_not_taken() -> None:
    with StunServer() as server:
        server.forged = True
        assert host.resolve(f"stun:127.0.0.1:{server.port}") == "203.0.113.5"


def test_an_error_of_the_server_is_told() -> None:
    with StunServer() as server:
        server.error = 500
        with pytest.raises(OSError, match="the STUN server says 500 No"):
            host.resolve(f"stun:127.0.0.1:{server.port}")


def test_who_is_known_is_not_asked_again_and_who_is_silent_not_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PATIENCE", 0.2)
    with StunServer() as server:
        text = f"stun:127.0.0.1:{server.port}"
        server.deaf = 100
        for _ in range(2):
            with pytest.raises(OSError, match="does not answer"):
                host.resolve(text)
        asked = len({request[8:20] for request in server.requests})
        assert asked == 1
        server.deaf = 0
        monkeypatch.setattr(host, "AGAIN", 0.0)
        assert [host.resolve(text) for _ in range(2)] == ["203.0.113.5"] * 2
        assert len({request[8:20] for request in server.requests}) == 2


def test_who_has_no_time_asks_nobody_and_knows_what_was_found_before(tmp_path: Path) -> None:
    with StunServer() as server:
        text = f"stun:127.0.0.1:{server.port}"
        with pytest.raises(OSError, match="not asked for while the node runs"):
            host.resolve(text, patient=False)
        assert server.requests == []
        host.resolve(text)
        assert host.resolve(text, patient=False) == "203.0.113.5"
        line = f'<X-PRE-PROCESS cmd="stun-set" data="external_sip_ip={text}"/>'
        plant(tmp_path, {"vars.xml": f"<include>{line}\n</include>"})
        assert load(tmp_path, patient=False).globals["external_sip_ip"] == "203.0.113.5"
        assert len(server.requests) == 1


def test_an_interface_that_is_not_there_has_no_address() -> None:
    with pytest.raises(OSError):
        host.interface_ip("nowhere0")


def test_the_mask_of_loopback_is_that_of_a_class_a_network() -> None:
    assert host.local_mask_v4("127.0.0.1") == "255.0.0.0"

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.config import host, load
from tests.node.config.tree import plant, profile


@pytest.fixture
def stun() -> Iterator[int]:
    """A STUN server that says where it saw the request come from; gives its port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def answer() -> None:
        request, (ip, port) = server.recvfrom(2048)
        number = struct.unpack("!I", socket.inet_aton(ip))[0] ^ host.MAGIC_COOKIE
        attribute = struct.pack("!HHBBHI", host.XOR_MAPPED_ADDRESS, 8, 0, 1, port ^ (host.MAGIC_COOKIE >> 16), number)
        padding = struct.pack("!HHI", 0x8022, 4, 0)
        head = struct.pack("!HHI12s", host.BINDING_RESPONSE, 20, host.MAGIC_COOKIE, request[8:20])
        server.sendto(head + padding + attribute, (ip, port))

    serving = threading.Thread(target=answer, daemon=True)
    serving.start()
    yield server.getsockname()[1]
    server.close()


def test_a_stun_server_tells_how_the_world_sees_us(stun: int) -> None:
    assert host.resolve(f"stun:127.0.0.1:{stun}") == "127.0.0.1"


def test_a_name_tells_its_address() -> None:
    assert host.resolve("host:127.0.0.9") == "127.0.0.9"


def test_anything_else_is_refused() -> None:
    with pytest.raises(OSError, match="must begin with"):
        host.resolve("example.org")


def test_an_answer_to_another_request_is_not_taken() -> None:
    answer = struct.pack("!HHI12s", host.BINDING_RESPONSE, 0, host.MAGIC_COOKIE, b"x" * 12)
    assert host.mapped_address(answer, b"y" * 12) == ""


def test_an_interface_that_is_not_there_has_no_address() -> None:
    with pytest.raises(OSError):
        host.interface_ip("nowhere0")


def test_the_mask_of_loopback_is_that_of_a_class_a_network() -> None:
    assert host.local_mask_v4("127.0.0.1") == "255.0.0.0"


def test_the_public_media_address_may_be_what_a_stun_server_says(tmp_path: Path, stun: int) -> None:
    """What goes into the descriptions is the address; what is shown is what the operator wrote."""
    text = f"stun:127.0.0.1:{stun}"
    plant(tmp_path, {"sip_profiles/internal.xml": profile("internal", f'<param name="ext-rtp-ip" value="{text}"/>')})
    settings = load(tmp_path).profiles["internal"]
    assert (settings.public_rtp_ip, settings.ext_rtp_ip) == ("127.0.0.1", text)


def test_without_an_answer_the_local_media_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PATIENCE", 0.1)
    lines = ('<param name="ext-rtp-ip" value="stun:127.0.0.1:9"/>', '<param name="rtp-ip" value="127.0.0.7"/>')
    plant(tmp_path, {"sip_profiles/internal.xml": profile("internal", *lines)})
    configuration = load(tmp_path)
    assert configuration.profiles["internal"].public_rtp_ip == "127.0.0.7"
    said = [complaint.text for complaint in configuration.warnings if "ext-rtp-ip" in complaint.text]
    assert len(said) == 1
    assert said[0].startswith("ext-rtp-ip gives no address: ")

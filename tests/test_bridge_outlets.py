"""Where a bridge's datagrams go: addresses, receivers that are not there, and being a phone."""

from __future__ import annotations

import socket
import sys

import numpy as np
import pytest
from diffspeaker_client import FaceError
from diffspeaker_client.bridge.destination import Destination, parse_target
from diffspeaker_client.bridge.encoder import Instant
from diffspeaker_client.bridge.ifacialmocap import GREETING
from diffspeaker_client.bridge.outlet import Phone

NOON = Instant(0.0, 43_200.0, 30)


def send(data: bytes, port: int, host: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, (host, port))


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("10.0.0.5", ("10.0.0.5", 39539)),
        ("10.0.0.5:1234", ("10.0.0.5", 1234)),
        (":1234", ("127.0.0.1", 1234)),
        ("studio.local", ("studio.local", 39539)),
        ("::1", ("::1", 39539)),
        ("[::1]:1234", ("::1", 1234)),
        ("[::1]", ("::1", 39539)),
    ],
)
def test_a_receivers_address_is_a_host_a_port_or_both(text: str, target: tuple[str, int]) -> None:
    assert parse_target(text, 39539) == target


@pytest.mark.parametrize("text", ["", "a:b", "a:0", "a:65536", "[::1", "[::1]1", "a:-1", "a:١"])
def test_what_is_no_receivers_address_is_refused(text: str) -> None:
    with pytest.raises(FaceError, match="HOST:PORT"):
        parse_target(text, 39539)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the sender")
def test_a_receiver_that_is_not_there_is_told_once_and_is_found_when_it_comes() -> None:
    port = free_port(socket.SOCK_DGRAM)
    destination = Destination("127.0.0.1", port)
    told = [destination.send(b"x", 0.01 * i) for i in range(20)]
    (sentence,) = [sentence for sentence in told if sentence]
    assert f"Nobody listens at 127.0.0.1:{port}" in sentence
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(5)
        assert destination.send(b"first", 0.3) is None
        assert receiver.recv(64) == b"first"  # what only reported the old refusal was sent again
        assert destination.send(b"later", 2.0) is None
    assert any(destination.send(b"x", 3.0 + 0.01 * i) for i in range(2))  # the next outage is told again
    destination.close()


def test_a_phone_keeps_the_eight_newest_hosts_and_the_newest_greeting_of_each() -> None:
    phone = Phone("127.0.0.1", 0, reply_port=9)
    still, driven = np.zeros(52, np.float32), np.ones(52, bool)
    assert phone.send(still, driven, NOON) is None and phone.sent == 0
    for greeting in (GREETING, GREETING + b"|sendDataVersion=v2"):
        send(greeting, phone.port)
        phone.send(still, driven, NOON)
    assert phone.name == "127.0.0.1" and phone.sent == 2
    phone.close()


def test_a_phones_port_that_is_in_use_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(FaceError, match=f"port {port}") as told:
            Phone("127.0.0.1", port, 9)
    assert told.value.code == "port_in_use" and told.value.exit_code == 5

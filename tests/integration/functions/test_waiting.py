"""How a connection waits for its replies, and what a caller does between writing and reading."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from qmodal.exception import Error
from qmodal.transport.connection import Address
from qmodal.transport.operation import Exchange
from qmodal.transport.sockets.spin import Spin
from tests.support.servers import TestServer
from tests.support.store.driving import DRIVERS

Pair = tuple[socket.socket, socket.socket]
LATE_SECONDS = 0.3


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a connection."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def receive(patience: Spin, end: socket.socket) -> bytes:
    buffer = bytearray(64)
    return bytes(buffer[: patience.receive(end, memoryview(buffer))])


def test_what_comes_late_is_waited_for_asleep(pair: Pair) -> None:
    ours, theirs = pair
    patience = Spin()
    theirs.send(b"at once")
    assert receive(patience, ours) == b"at once"  # so that it expects the next one soon
    timer = threading.Timer(LATE_SECONDS, theirs.send, (b"late",))
    timer.start()
    before = time.thread_time()
    assert receive(patience, ours) == b"late"
    assert time.thread_time() - before < LATE_SECONDS / 3
    timer.join()


def test_the_end_of_a_connection_is_seen_while_looking(pair: Pair) -> None:
    ours, theirs = pair
    patience = Spin()
    theirs.send(b"at once")
    receive(patience, ours)
    theirs.close()
    assert receive(patience, ours) == b""


@pytest.mark.parametrize("make", ["blocking", "asyncio"])
def test_what_is_done_meanwhile_comes_between_writing_and_reading(
    make: str, server: TestServer
) -> None:
    driver = DRIVERS[make](Address(server.url))
    done: list[str] = []
    request: Any = Exchange((("PING",),), meanwhile=lambda: done.append("made"))
    assert driver.exchange(request) == [b"PONG"]
    assert done == ["made"]
    driver.close()


@pytest.mark.parametrize("make", ["blocking", "asyncio"])
def test_an_interrupt_meanwhile_leaves_no_reply_for_the_next_exchange(
    make: str, server: TestServer
) -> None:
    driver = DRIVERS[make](Address(server.url))

    def interrupted() -> None:
        raise Error("interrupted")

    with pytest.raises(Error, match="interrupted"):
        driver.exchange(Exchange((("ECHO", "first"),), meanwhile=interrupted))
    assert driver.exchange(Exchange((("ECHO", "second"),))) == [b"second"]
    driver.close()

"""What was made before a fork: containers find it, and use it as their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from qmodal.transport.connection import Address, Connection
from qmodal.transport.driver import BlockingDriver
from qmodal.transport.operation import ask_one
from tests.support.boxes import Box, Fleet
from tests.support.servers import TestServer
from tests.support.store.bench import Bench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import io, socket, sys

BEFORE = set(sys.modules)
sys.stdout = io.StringIO()

def new_modules():
    # As what user code connects to; the server of the tests has no host.
    socket.getaddrinfo("127.0.0.1", 0)
    return sorted(set(sys.modules) - BEFORE)

def say(text):
    print(text)
"""


def test_a_container_imports_nothing_that_its_template_has_not(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"new_modules": None})
    fleet.ready(box, pools["new_modules"])
    assert fleet.value(fleet.call(pools["new_modules"])) == []


def test_what_a_module_has_put_in_place_of_the_output_is_not_where_containers_print(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"say": None})
    report = fleet.ready(box, pools["say"])
    fleet.value(fleet.call(pools["say"], "heard"))
    wait_until(lambda: b"heard" in fleet.printed(report.app), what="the output is there")


def test_a_line_that_a_driver_has_ready_connects_in_parent_and_child_for_itself(
    server: TestServer,
) -> None:
    driver = BlockingDriver(Address(server.url))
    driver.prepare()
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writable, b"%d" % driver.run(ask_one(b"CLIENT", b"ID")))
        finally:
            os._exit(0)
    connection = driver.run(ask_one(b"CLIENT", b"ID"))
    os.waitpid(child, 0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        assert int(pipe.read()) not in (0, connection)
    driver.close()


def test_a_line_made_before_a_fork_is_ended_by_the_child_that_connected_it(
    bench: Bench, server: TestServer
) -> None:
    """The server hears of it, although a process that the child has started holds the socket."""
    line = Connection(Address(server.url))
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            line.connect()
            os.write(writable, b"%d" % line.exchange(((b"CLIENT", b"ID"),))[0])
            if os.fork():
                line.close()
            signal.pause()
        finally:
            os._exit(1)
    connection = os.read(readable, 20)
    try:
        wait_until(
            lambda: not bench.ask(b"CLIENT", b"LIST", b"ID", connection), what="the line has ended"
        )
    finally:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(readable)
        os.close(writable)


def test_what_a_line_receives_after_a_fork_is_not_in_the_memory_of_others(
    server: TestServer,
) -> None:
    line = Connection(Address(server.url))
    child = os.fork()
    if child == 0:
        try:
            line.exchange((("PING",),))
        finally:
            os._exit(int(bytes(line._buffer[:5]) != b"+PONG"))
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(line._buffer[:5]) == bytes(5)
    line.close()


def test_a_line_takes_no_memory_for_what_it_has_not_received(server: TestServer) -> None:
    """Each can receive a mebibyte at once."""
    process = psutil.Process()
    before = process.memory_info().rss
    lines = [Connection(Address(server.url)) for _ in range(64)]
    for line in lines:
        assert line.exchange((("PING",),)) == [b"PONG"]
    assert process.memory_info().rss - before < 16 << 20
    for line in lines:
        line.close()

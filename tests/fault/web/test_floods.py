"""Clients that send without an end, or nothing at all: what each costs the gateway has a limit."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from qmodal.client.client import current
from tests.support.waiting import wait_until
from tests.support.web.raw import head, status_of, until
from tests.support.web.served import PROGRAM, SECONDS, Served, read_all, served

MIB = 1024 * 1024
CHUNKED = "transfer-encoding: chunked"
QUICK = (
    "from qmodal.services.gateway.protocol import http as limits; "
    f"limits.HEAD_SECONDS, limits.DRAIN_SECONDS = 1.0, 1.0; {PROGRAM}"
)
CONNECTIONS = 10_000
# What an idle connection may take of the gateway's memory; the kernel's buffers are not counted.
IDLE_BYTES = 16 * 1024


@pytest.fixture(scope="module")
def quick(gated: Any) -> Iterator[Served]:
    """A gateway that waits for heads and bodies for a second only."""
    with served(current().settings, program=QUICK, QMODAL_WEB_BODY_SECONDS="1") as running:
        yield running


def memory(gateway: Served) -> int:
    """Bytes that the gateway has in memory."""
    return int(psutil.Process(gateway.process.pid).memory_info().rss)


def flood(gateway: Served, begin: bytes, part: bytes) -> tuple[int, bytes]:
    """How many bytes beyond the first ones it takes, at most 200 MiB, and what it says."""
    sent = 0
    with gateway.connection() as made:
        try:
            made.sendall(begin)
            while sent < 200 * MIB:
                made.sendall(part)
                sent += len(part)
        except OSError:  # it has closed
            pass
        return sent, read_all(made)


@pytest.mark.parametrize(
    ("path", "begin", "part"),
    [
        ("size", b"0\r\nx-trailer: ", b"x" * MIB),
        ("size", b"0\r\n", b"x-trailer: 1\r\n" * 10_000),
        ("size", b"1;extension=", b"x" * MIB),
        ("nowhere/x", b"0\r\nx-trailer: ", b"x" * MIB),
    ],
)
def test_what_is_in_a_body_and_not_of_it_has_an_end(
    quick: Served, path: str, begin: bytes, part: bytes
) -> None:
    before = memory(quick)
    target = f"/gated/web/{path}" if path == "size" else f"/{path}"
    sent, _ = flood(quick, head(f"POST {target} HTTP/1.1", CHUNKED) + begin, part)
    assert sent < 32 * MIB
    assert memory(quick) - before < 32 * MIB


def test_a_body_in_small_chunks_with_long_extensions_is_read(gateway: Served) -> None:
    body = b"".join(b"1;%s\r\na\r\n" % (b"x" * 1000) for _ in range(500)) + b"0\r\na: b\r\n\r\n"
    found = gateway.raw(head("POST /gated/web/size HTTP/1.1", CHUNKED, "connection: close") + body)
    assert b"500 " in found


def test_an_endless_body_that_nobody_reads_is_held_back(gateway: Served, tmp_path: Path) -> None:
    before = memory(gateway)
    with gateway.connection() as made:
        path = f"/gated/web/waits?folder={tmp_path}"
        made.sendall(head(f"POST {path} HTTP/1.1", CHUNKED))
        made.settimeout(2)
        with pytest.raises(TimeoutError):
            for _ in range(200):
                made.sendall(b"100000\r\n" + bytes(MIB) + b"\r\n")
        assert memory(gateway) - before < 16 * MIB
        (tmp_path / "go").touch()
        made.settimeout(SECONDS)
        assert status_of(made.recv(65536)) == 200


def test_an_endless_body_is_not_read_for_ever_after_its_answer(quick: Served) -> None:
    sent, said = flood(
        quick, head("POST /nowhere HTTP/1.1", CHUNKED), b"100000\r\n" + bytes(MIB) + b"\r\n"
    )
    assert sent < 100 * MIB
    assert said == b"" or status_of(said) == 404


def test_a_body_of_five_gibibytes_is_refused_by_its_length(gateway: Served) -> None:
    answer = gateway.raw(head("POST /gated/web/size HTTP/1.1", f"content-length: {5 << 30}"))
    assert status_of(answer) == 413


def test_empty_lines_keep_no_connection(quick: Served) -> None:
    with quick.connection() as made:
        made.sendall(head("GET /healthz HTTP/1.1"))
        until(made, b"ok\n")
        made.sendall(b"\r\n")
        assert read_all(made) == b""
    with quick.connection() as made:
        made.sendall(head("GET /healthz HTTP/1.1"))
        until(made, b"ok\n")
        made.sendall(b"\r\n\r\n" + head("GET /healthz HTTP/1.1"))
        assert status_of(until(made, b"ok\n")) == 200


def test_idle_connections_take_little_and_are_closed(gateway: Served) -> None:
    """Ten thousand, or as many as this machine allows; all others are answered meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    process = psutil.Process(gateway.process.pid)
    own, theirs = process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)[0]
    count = min(CONNECTIONS, hard - 500, theirs - 500)
    try:
        with ExitStack() as stack:
            before = memory(gateway)
            for _ in range(count):
                made = stack.enter_context(
                    socket.create_connection(gateway.address, timeout=SECONDS)
                )
                made.sendall(head("GET /healthz HTTP/1.1"))
                until(made, b"ok\n")
            assert memory(gateway) - before < count * IDLE_BYTES
            assert process.num_fds() >= own + count
            assert gateway.get("/gated/web/x").status_code == 200
        wait_until(lambda: process.num_fds() <= own + 10, what="all are closed", seconds=SECONDS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

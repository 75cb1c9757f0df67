"""The clients, each a process of its own that prints its figures as JSON.

`python -m benchmarks.web.client load|download|events|echo URL …`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from benchmarks.bench import quantile

STAMP = re.compile(rb"data: (\d+)\n")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
# Messages of the first moments are no figures: streams are still being opened.
SETTLE_SECONDS = 2.0


class Repeating(asyncio.Protocol):
    """One connection: the request again as soon as its answer is complete."""

    def __init__(self, request: bytes) -> None:
        self.latencies: list[int] = []
        self.failed = 0
        self._request = request
        self._began = 0
        self._answer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._ask()

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._answer += data
        if not is_complete(self._answer):
            return
        self.latencies.append(time.perf_counter_ns() - self._began)
        self.failed += not self._answer.startswith(b"HTTP/1.1 2")
        self._answer = b""
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """It counts as a request that failed, unless we closed it."""
        self.failed += self._transport is not None

    def close(self) -> None:
        """Ask no more."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def _ask(self) -> None:
        if self._transport is not None:
            self._began = time.perf_counter_ns()
            self._transport.write(self._request)


def is_complete(answer: bytes) -> bool:
    """Whether these are all bytes of a response, with a length or in chunks."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


async def load(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Requests on so many connections, for so long; latencies in µs."""
    loop, (host, port), request = asyncio.get_running_loop(), *target(url)
    made = []
    for _ in range(connections):
        _, one = await loop.create_connection(lambda: Repeating(request), host, port)
        made.append(one)
    await asyncio.sleep(seconds)
    for one in made:
        one.close()
    taken = [latency / 1000 for one in made for latency in one.latencies]
    return {
        "requests": len(taken),
        "rate": len(taken) / seconds,
        "p50": quantile(taken, 0.5),
        "p99": quantile(taken, 0.99),
        "failed": sum(one.failed for one in made),
    }


@dataclass
class Arrivals:
    """How late messages of all streams were, in ns."""

    opened: int = 0
    counts: bool = False
    late: list[int] = field(default_factory=list)


class Following(asyncio.Protocol):
    """One stream of events."""

    def __init__(self, request: bytes, arrivals: Arrivals) -> None:
        self._request = request
        self._arrivals = arrivals
        self._rest = b""
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take what has come, whole lines only."""
        now = time.monotonic_ns()
        lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
        for stamp in STAMP.findall(lines + newline):
            if not self._is_open:
                self._is_open = True
                self._arrivals.opened += 1
            if self._arrivals.counts:
                self._arrivals.late.append(now - int(stamp))


async def events(url: str, streams: int, seconds: float) -> dict[str, float]:
    """Open all streams, say so, and listen for so long; ms between sending and arrival."""
    loop, (host, port), request = asyncio.get_running_loop(), *target(url)
    arrivals = Arrivals()
    transports = []
    for _ in range(streams):
        made = await loop.create_connection(lambda: Following(request, arrivals), host, port)
        transports.append(made[0])
    ends = time.monotonic() + 60
    while arrivals.opened < streams:
        if time.monotonic() > ends:
            raise TimeoutError(f"{arrivals.opened} of {streams} streams were answered in a minute")
        await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLE_SECONDS)
    arrivals.counts = True
    print(json.dumps({"opened": arrivals.opened}), flush=True)
    await asyncio.sleep(seconds)
    for transport in transports:
        transport.abort()
    late = [each / 1e6 for each in arrivals.late]
    return {
        "messages": len(late),
        "latest": max(late),
        "p50": quantile(late, 0.5),
        "p99": quantile(late, 0.99),
    }


async def echo(url: str, count: int) -> dict[str, float]:
    """Messages of a websocket, each there and back before the next; µs."""
    from websockets.asyncio.client import connect

    taken = []
    async with connect(url.replace("http://", "ws://", 1), compression=None, proxy=None) as peer:
        for number in range(count):
            began = time.perf_counter_ns()
            await peer.send(f"message {number}")
            assert await peer.recv() == f"message {number}"
            taken.append((time.perf_counter_ns() - began) / 1000)
    return {"messages": count, "p50": quantile(taken, 0.5), "p99": quantile(taken, 0.99)}


def download(url: str, size: int) -> dict[str, float]:
    """Bytes a second of one response, which has at least `size` bytes."""
    address, request = target(url, "Connection: close\r\n")
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_connection(address) as peer:
        began = time.perf_counter()
        peer.sendall(request)
        total = 0
        while count := peer.recv_into(buffer):
            total += count
        taken = time.perf_counter() - began
    if total < size:
        raise RuntimeError(f"{total} of {size} bytes came: {bytes(buffer[:200])!r}")
    return {"bytes": total, "rate": total / taken}


def target(url: str, more: str = "") -> tuple[tuple[str, int], bytes]:
    """Where to connect for a URL, and the request to send there."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    return (host, port), f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{more}\r\n".encode()


def run(work: Coroutine[Any, Any, dict[str, float]]) -> dict[str, float]:
    """On uvloop if it is there."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def main() -> None:
    """Print the figures of one client."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web.client")
    parser.add_argument("kind", choices=["load", "download", "events", "echo"])
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    match options.kind:
        case "load":
            found = run(load(options.url, options.connections, options.seconds))
        case "events":
            found = run(events(options.url, options.connections, options.seconds))
        case "echo":
            found = run(echo(options.url, options.count))
        case _:
            found = download(options.url, options.count)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

"""`python -m benchmarks.objects`: puts and gets of a Dict and a Queue beside a bare SET and GET, on one server.

The bare ones go through our own connection, in the same process and rounds, so that the ratios say what signing,
scripts and handles cost, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import qmodal
from benchmarks.server import private_server
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.transport.connection import Address, Connection

VALUE = "a small value"
MANY = 1000
Act = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objects", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--count", type=int, default=300, help="of each, in a round")
    parser.add_argument("--unix", action="store_true", help="a Unix socket in place of TCP")
    options = parser.parse_args()
    with private_server() as server:
        url = server.unix_url if options.unix else server.url
        client = Client(Settings(redis_url=url, signing_key=bytes(32)))
        clients.use(client)
        with qmodal.Dict.ephemeral() as d, qmodal.Queue.ephemeral() as q:
            report(singles(url, d, q), options.rounds, options.count)
            report_many(d, q, options.rounds)
        client.close()


def singles(url: str, d: qmodal.Dict, q: qmodal.Queue) -> dict[str, Act]:
    """What is done one by one; the bare ones first."""
    bare = Connection(Address(url))
    value = VALUE.encode()
    return {
        "SET": lambda: bare.exchange([(b"SET", b"bare", value)]),
        "GET": lambda: bare.exchange([(b"GET", b"bare")]),
        "Dict.put": lambda: d.put("key", VALUE),
        "Dict.get": lambda: d.get("key"),
        "Queue.put": lambda: q.put(VALUE),
        "Queue.get": q.get,
    }


def report(acts: dict[str, Act], rounds: int, count: int) -> None:
    """The median round of each, in µs, and beside the bare command."""
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds + 1):
        for name, act in acts.items():
            begin = time.perf_counter()
            for _ in range(count):
                act()
            taken[name].append((time.perf_counter() - begin) / count)
    median = {name: statistics.median(each[1:]) for name, each in taken.items()}
    for name, seconds in median.items():
        beside = "GET" if name.lower().endswith("get") else "SET"
        ratio = f"{seconds / median[beside]:5.2f} x {beside}"
        print(f"{name:12}{seconds * 1e6:8.1f} µs  {ratio}")


def report_many(d: qmodal.Dict, q: qmodal.Queue, rounds: int) -> None:
    """How many values a second go into a queue and out of it, a thousand at a time; and into a dictionary."""
    values = [f"{VALUE} {n}" for n in range(MANY)]
    entries = dict(enumerate(values))
    acts: dict[str, Act] = {
        "Queue.put_many": lambda: q.put_many(values),
        "Queue.get_many": lambda: q.get_many(MANY),
        "Dict.update": lambda: d.update(entries),
        "Dict.items": lambda: list(d.items()),
    }
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds + 1):
        for name, act in acts.items():
            begin = time.perf_counter()
            act()
            taken[name].append(time.perf_counter() - begin)
    for name, each in taken.items():
        print(f"{name:16}{MANY / statistics.median(each[1:]):10,.0f} values/s")


if __name__ == "__main__":
    main()

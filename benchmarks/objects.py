"""`python -m benchmarks.objects`: puts and gets of a Dict and a Queue beside a bare SET and GET, on one server.

The bare ones go through our own connection, in the same process and rounds, once as bytes on the connection and once as
an operation of the client, as every other command is sent. Of each the quickest round counts: what other programs take is no
cost of ours.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import qmodal
from benchmarks.server import private_server
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.transport.connection import Address, Connection
from qmodal.transport.operation import ask_one

VALUE = "a small value"
MANY = 1000
Act = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objects", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--count", type=int, default=100, help="of each, in a round")
    parser.add_argument("--unix", action="store_true", help="a Unix socket in place of TCP")
    options = parser.parse_args()
    with private_server() as server:
        url = server.unix_url if options.unix else server.url
        client = Client(Settings(redis_url=url, signing_key=bytes(32)))
        clients.use(client)
        d = qmodal.Dict.from_name("benchmark", create_if_missing=True)
        q = qmodal.Queue.from_name("benchmark", create_if_missing=True)
        report(singles(url, d, q), options.rounds, options.count)
        d.clear()
        report_many(d, q, options.rounds)
        client.close()


def singles(url: str, d: qmodal.Dict, q: qmodal.Queue) -> dict[str, Act]:
    """What is done one by one; the bare ones first."""
    bare, client = Connection(Address(url)), clients.current()
    value, numbers = VALUE.encode(), itertools.count()
    return {
        "SET": lambda: bare.exchange([(b"SET", b"bare", value)]),
        "GET": lambda: bare.exchange([(b"GET", b"bare")]),
        "SET by client": lambda: client.run(ask_one(b"SET", b"bare", value)),
        "GET by client": lambda: client.run(ask_one(b"GET", b"bare")),
        "Dict.put": lambda: d.put("key", VALUE),
        "Dict.put new": lambda: d.put(next(numbers), VALUE),
        "Dict.get": lambda: d.get("key"),
        "Queue.put": lambda: q.put(VALUE),
        "Queue.get": q.get,
    }


def report(acts: dict[str, Act], rounds: int, count: int) -> None:
    """The quickest round of each, in µs, and beside the bare commands."""
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds + 1):
        for name, act in acts.items():
            begin = time.perf_counter()
            for _ in range(count):
                act()
            taken[name].append((time.perf_counter() - begin) / count)
    best = {name: min(each[1:]) for name, each in taken.items()}
    for name, seconds in best.items():
        bare = "GET" if "get" in name.lower() else "SET"
        ratios = [f"{seconds / best[one]:5.2f} x {one}" for one in (bare, f"{bare} by client")]
        print(f"{name:14}{seconds * 1e6:8.1f} µs  {'  '.join(ratios)}")


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
        print(f"{name:16}{MANY / min(each[1:]):10,.0f} values/s")


if __name__ == "__main__":
    main()

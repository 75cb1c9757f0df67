"""A container that dies at any place between user code's first line and the end of its input is charged for it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from qmodal.spec.options import FunctionOptions, validated_options
from qmodal.transport.operation import ask_one
from tests.support.boxes import Box, Fleet, Pool
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

# `at<n>` ends its process at the n-th call of a Python function that its container makes from then on:
# ours only, as user code is over by then.
SOURCE = """
import os, signal, sys, time

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(n):
    def count(frame, event, argument):
        nonlocal n
        n -= event == "call"
        if n == 0:
            die()
    sys.setprofile(count)

def ending(n):
    def act(kind):
        if kind != "small":
            time.sleep(0.11)  # so long that it counts as ended while its outcome is stored
        die_at(n)
        if kind == "fails":
            raise ValueError("no luck")
        return b"x" * (2 << 20 if kind == "large" else 10)
    return act

for n in range(1, 400):
    globals()[f"at{n}"] = ending(n)

class Pickled:
    def __reduce__(self):
        die()

def first_line():
    die()

def result():
    return Pickled()

def argument(_):
    raise AssertionError

def from_a_thread():
    import threading
    threading.Timer(0.01, die).start()
    time.sleep(10)
"""
PLACES = ("first_line", "result", "argument", "from_a_thread")


def charges(fleet: Fleet, pool: Pool) -> list[int]:
    """Of what waits to run again: lost deliveries, or used retries."""
    keys = fleet.client.keys
    entries = fleet.client.run(ask_one(b"XRANGE", keys.again(pool), b"-", b"+"))
    named = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in entries]
    return [int(each[b"d"]) + int(each[b"r"]) for each in named]


def is_over(fleet: Fleet, pool: Pool, call: str) -> bool:
    """Whether an attempt has ended, and all that comes of it has come."""
    outputs = fleet.client.run(fleet.client.calls.read(call, b"0", block=0))
    return bool(outputs or charges(fleet, pool))


def walk(fleet: Fleet, box: Box, folder: Path, kind: str, places: Sequence[int]) -> list[list[int]]:
    """One input and one container for each place; what was charged where no outcome was stored."""
    options = {f"at{n}": validated_options(retries=1) for n in places}
    pools = list(fleet.publish(folder, SOURCE, dict[str, FunctionOptions | None](options)).values())
    for pool in pools:
        fleet.assign(box, pool)
    calls = [fleet.call(pool, kind)[0] for pool in pools]
    for pool, call in zip(pools, calls, strict=True):
        over = partial(is_over, fleet, pool, call)
        wait_until(over, what=f"{call} ends", seconds=20)
    return [found for found in (charges(fleet, pool) for pool in pools) if found]


@pytest.mark.parametrize("kind", ["small", "large", "fails"])
def test_every_place_behind_user_code_is_charged(
    fleet: Fleet, box: Box, tmp_path: Path, kind: str
) -> None:
    found = walk(fleet, box, tmp_path / "src", kind, range(1, 60, 3))
    assert len(found) > 4, "hardly any container has ended before its outcome was stored"
    assert found == [[1]] * len(found)


class Rebuilt:
    """An argument whose rebuilding sends SIGKILL to the process that does it."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("__import__('os').kill(__import__('os').getpid(), 9)",)


def test_an_input_that_ends_its_container_wherever_has_an_end(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, dict.fromkeys(PLACES))
    rebuilt = {"format": "p", "payload": pickle.dumps(((Rebuilt(),), {}))}
    calls = {
        name: fleet.call(pool, **(rebuilt if name == "argument" else {}))
        for name, pool in pools.items()
    }
    for _ in range(3):
        for container in [fleet.assign(box, pool) for pool in pools.values()]:
            fleet.until(box, container, "ended")
    for called in calls.values():
        assert fleet.outcome(called) == "its container was killed by signal 9"

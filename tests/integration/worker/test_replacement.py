"""New versions take over: what an older one has not started by then it never starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from qmodal.spec.options import FunctionOptions, validated_options
from qmodal.store.watch.succession import OLD, Successions
from qmodal.transport.operation import ask_one
from tests.support.boxes import Box, Fleet
from tests.support.store.bench import Bench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import asyncio, os, time

NUMBER = {number}

def which():
    return NUMBER

async def together():
    await asyncio.sleep(0.001)
    return NUMBER

def slow(go, mark=""):
    open(mark, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return NUMBER
"""
OPTIONS: dict[str, FunctionOptions | None] = {
    "which": None,
    "together": validated_options().with_concurrency(8),
    "slow": None,
}


@contextmanager
def calling(fleet: Fleet, pool: str, *, callers: int = 4) -> Iterator[list[int]]:
    """Callers that call all the time; the versions that have answered, in the order of their answers."""
    answers: list[int] = []
    is_over = threading.Event()

    def call() -> None:
        while not is_over.is_set():
            answers.append(fleet.value(fleet.call(pool)))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for each in threads:
        each.start()
    try:
        yield answers
    finally:
        is_over.set()
        for each in threads:
            each.join(30)


@pytest.fixture
def boxes(fleet: Fleet) -> Iterator[tuple[Box, Box]]:
    with fleet.box() as one, fleet.box() as other:
        yield one, other


def _app(fleet: Fleet, pool: str) -> str:
    found: bytes = fleet.client.run(ask_one(b"HGET", fleet.client.keys.pool(pool), b"app"))
    return found.decode()


def _ends_with(answers: list[int], last: list[int]) -> bool:
    return answers[-len(last) :] == last


def published(fleet: Fleet, folder: Path, number: int, app_id: str = "") -> dict[str, str]:
    return fleet.publish(
        folder, SOURCE.format(number=number), OPTIONS, app_id=app_id, number=number
    )


@pytest.mark.parametrize("function", ["which", "together"])
def test_no_version_answers_after_a_newer_one_has(
    fleet: Fleet, boxes: tuple[Box, Box], tmp_path: Path, function: str
) -> None:
    pool = published(fleet, tmp_path / "src", 1)[function]
    app_id = _app(fleet, pool)
    for box in boxes * 2:
        fleet.ready(box, pool)
    with calling(fleet, pool) as answers:
        wait_until(lambda: len(answers) > 10, what="version 1 answers")
        for number in (2, 3, 4):
            published(fleet, tmp_path / "src", number, app_id)
            # Nobody tells the older containers to go, and all of these start at the same moment.
            new = [fleet.assign(box, pool) for box in boxes * 2]
            for box, container in zip(boxes * 2, new, strict=True):
                fleet.until(box, container, "ready")
            last = [number] * 20
            wait_until(partial(_ends_with, answers, last), what=f"version {number} answers")
    assert answers == sorted(answers)
    assert set(answers) == {1, 2, 3, 4}


def test_what_an_older_version_runs_ends_there_and_holds_up_the_newer_one_for_a_second_at_most(
    fleet: Fleet, boxes: tuple[Box, Box], tmp_path: Path
) -> None:
    pool = published(fleet, tmp_path / "src", 1)["slow"]
    box, other = boxes
    old, go = fleet.ready(box, pool), tmp_path / "go"
    before = fleet.begin(pool, str(go))
    published(fleet, tmp_path / "src", 2, old.app)
    fleet.ready(other, pool)
    assert fleet.until(box, old.container, "draining").number == 1
    after = fleet.begin(pool, str(go))  # by the newer one: the older one is busy
    go.touch()
    assert (fleet.value(before), fleet.value(after)) == (1, 2)
    fleet.until(box, old.container, "ended")


def test_an_older_version_that_becomes_ready_after_a_newer_one_starts_nothing(
    fleet: Fleet, boxes: tuple[Box, Box], tmp_path: Path
) -> None:
    pool = published(fleet, tmp_path / "src", 1)["which"]
    box, _ = boxes
    command = Successions(fleet.client.keys).command(pool, 2, "ta-newer-1")
    assert fleet.client.run(ask_one(*command)) == []
    old = fleet.until(box, fleet.assign(box, pool), "ended")
    assert (old.number, old.detail) == (1, "a newer version has replaced it")
    called = fleet.call(pool)
    published(fleet, tmp_path / "src", 2, old.app)
    fleet.ready(box, pool)
    assert fleet.value(called) == 2


def test_who_is_not_heard_of_is_not_waited_for(bench: Bench) -> None:
    bench.submit()
    bench.claim("ta-gone-1")
    successions = Successions(bench.client.keys)
    assert bench.ask(*successions.command(bench.pool, 1, "ta-a-1")) == []
    assert bench.ask(*successions.command(bench.pool, 3, "ta-a-1")) == [b"ta-gone-1"]
    assert bench.ask(*successions.command(bench.pool, 2, "ta-b-1")) == OLD
    bench.client.run(successions.complete(bench.pool, 3, ["ta-gone-1"]))
    assert bench.ask(*successions.command(bench.pool, 3, "ta-b-1")) == []


def test_of_a_pool_that_is_not_known_nothing_is_noted(bench: Bench) -> None:
    pool = bench.client.keys.pool(bench.pool)
    bench.ask(b"DEL", pool)
    assert bench.ask(*Successions(bench.client.keys).command(bench.pool, 2, "ta-a-1")) == []
    assert bench.ask(b"EXISTS", pool) == 0

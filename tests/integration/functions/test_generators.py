"""Generators as programs use them, on the embedded stack."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client.client import current
from qmodal.exception import (
    AsyncUsageWarning,
    FunctionTimeoutError,
    InvalidError,
    RemoteError,
    WorkerLost,
)
from qmodal.store.results.items import ROOM
from qmodal.transport.operation import ask_one
from qmodal_workers.container.run.item_sender import MOST_UNSENT
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "generators.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program; one stack for all tests of this module."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


def received(items: Iterator[Any], expected: type[BaseException]) -> list[Any]:
    """What arrives before that error does."""
    found: list[Any] = []
    with pytest.raises(expected):
        found.extend(items)
    return found


@pytest.mark.parametrize("count", [0, 1, 7, 8 * ROOM])
@pytest.mark.parametrize("name", ["count", "acount"])
def test_items_arrive_in_order_each_once(user: Any, name: str, count: int) -> None:
    assert list(getattr(user, name).remote_gen(count)) == list(range(count))


def test_items_can_be_iterated_without_blocking_a_loop(user: Any) -> None:
    async def consume(function: Any) -> list[int]:
        return [item async for item in function.remote_gen.aio(3000)]

    async def both() -> list[list[int]]:
        found = await asyncio.gather(consume(user.count), consume(user.acount))
        await current().aclose()
        return [*found]

    assert asyncio.run(both()) == [list(range(3000))] * 2


def test_methods_can_be_generators(user: Any) -> None:
    counter = user.Counter(step=3)
    assert list(counter.up.remote_gen(3)) == [0, 3, 6]
    assert list(counter.aup.remote_gen(3)) == [0, 3, 6]
    assert list(counter.declared.remote_gen(3)) == [0, 3, 6]
    assert counter.times.remote(5) == 15


@pytest.mark.parametrize("kind", ["iterator", "async"])
def test_a_plain_function_may_be_declared_a_generator(user: Any, kind: str) -> None:
    assert user.declared.is_generator
    assert list(user.declared.remote_gen(4, kind)) == [0, 1, 2, 3]


def test_a_declared_generator_that_returns_something_else_fails(user: Any) -> None:
    with pytest.raises(InvalidError, match="declared as a generator and returned a list"):
        list(user.declared.remote_gen(4, "list"))


@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_a_function_that_returns_what_has_not_run_yet_fails(user: Any, kind: str) -> None:
    with pytest.raises(InvalidError, match=f"unexpected returned a {kind} unexpectedly"):
        user.unexpected.remote(kind)


def test_nothing_is_sent_before_the_first_item_is_asked_for(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "progress"
    key = current().keys.pool(user.note.hydrate().object_id[3:])
    look = (b"HGET", key, b"submitted")
    before = int(current().run(ask_one(*look)) or 0)
    items = user.note.remote_gen(str(path), 2)
    assert int(current().run(ask_one(*look)) or 0) == before
    assert next(items) == 0
    assert int(current().run(ask_one(*look))) == before + 1
    items.close()
    wait_until(Path(f"{path}.done").exists, what="the end of the run")


def test_each_item_arrives_before_the_next_is_made(user: Any, tmp_path: Path) -> None:
    for item in user.in_turns.remote_gen(str(tmp_path), 20):
        (tmp_path / str(item)).touch()
    assert len(list(tmp_path.iterdir())) == 20


MISUSES: dict[str, tuple[Any, str]] = {
    "remote": (
        lambda user: user.count.remote(3),
        r"A generator function cannot be called with `\.remote\(\.\.\.\)`\. "
        r"Use `\.remote_gen\(\.\.\.\)` instead\.",
    ),
    "spawn": (lambda user: user.count.spawn(3), r"Cannot `spawn` a generator function\."),
    "map": (
        lambda user: list(user.count.map([3])),
        r"A generator function cannot be called with `\.map\(\.\.\.\)`\.",
    ),
    "remote_gen": (
        lambda user: list(user.square.remote_gen(3)),
        r"A non-generator function cannot be called with `\.remote_gen\(\.\.\.\)`\. "
        r"Use `\.remote\(\.\.\.\)` instead\.",
    ),
}


@pytest.mark.parametrize("way", MISUSES)
def test_the_wrong_verb_is_refused(user: Any, way: str) -> None:
    use, message = MISUSES[way]
    with pytest.raises(InvalidError, match=message):
        use(user)


def test_blocking_a_running_loop_warns(user: Any) -> None:
    async def block() -> list[int]:
        return list(user.count.remote_gen(2))

    with pytest.warns(AsyncUsageWarning, match=r"remote_gen\.aio"):
        assert asyncio.run(block()) == [0, 1]


@pytest.mark.parametrize(
    ("kind", "expected"), [("raise", KeyError), ("exit", SystemExit), ("unpicklable", TypeError)]
)
def test_an_exception_comes_behind_the_items_before_it(
    user: Any, kind: str, expected: type[BaseException]
) -> None:
    items = user.fail_after.remote_gen(2000, kind)
    assert received(items, expected) == list(range(2000))


@pytest.mark.parametrize("name", ["too_long", "atoo_long"])
@pytest.mark.parametrize("count", [3, 100_000_000])
def test_the_time_limit_is_for_all_items_together(
    user: Any, tmp_path: Path, name: str, count: int
) -> None:
    """Also for a generator that waits for its reader."""
    path = tmp_path / "cleaned"
    items = getattr(user, name).remote_gen(count, str(path))
    assert next(items) == 0
    wait_until(path.exists, what="the end of the generator")
    found = received(items, FunctionTimeoutError)
    assert found == list(range(1, len(found) + 1))
    assert len(found) <= ROOM + MOST_UNSENT


def test_a_running_generator_can_be_cancelled(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "cleaned"
    items = user.identify.remote_gen(str(path))
    qmodal.FunctionCall.from_id(next(items)).cancel()
    with pytest.raises(RemoteError, match="cancelled"):
        next(items)
    wait_until(path.exists, what="the end of the generator")


def test_a_generator_that_waits_for_its_reader_can_be_cancelled(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "cleaned"
    items = user.identify.remote_gen(str(path), 100_000_000)
    call = qmodal.FunctionCall.from_id(next(items))
    wait_until(
        lambda: current().run(ask_one(b"HGET", current().keys.call(call.object_id), b"waits")),
        what="a full stream",
    )
    call.cancel()
    received(items, RemoteError)
    wait_until(path.exists, what="the end of the generator")


def test_a_generator_that_is_interrupted_after_its_first_item_is_lost(
    user: Any, tmp_path: Path
) -> None:
    items = user.interrupted.remote_gen(str(tmp_path / "once"))
    assert received(items, WorkerLost) == [0]


def test_a_generator_can_read_another_one(user: Any) -> None:
    assert list(user.doubled.remote_gen(2000)) == list(range(0, 4000, 2))


def test_a_generator_that_has_produced_does_not_run_again(user: Any, tmp_path: Path) -> None:
    items = user.die.remote_gen(str(tmp_path / "died"), 1, 3)
    assert received(items, WorkerLost) == [0]


def test_a_generator_that_has_produced_nothing_runs_again(user: Any, tmp_path: Path) -> None:
    assert list(user.die.remote_gen(str(tmp_path / "died"), 0, 3)) == [0, 1, 2]


def test_an_unread_generator_waits_and_goes_on_when_it_is_read(user: Any, tmp_path: Path) -> None:
    path, count = tmp_path / "progress", 3 * ROOM
    items = user.note.remote_gen(str(path), count)
    assert next(items) == 0
    most = 1 + ROOM + MOST_UNSENT
    wait_until(lambda: int(path.read_text() or 0) >= ROOM, what="a full stream")
    assert int(path.read_text() or 0) <= most
    assert list(items) == list(range(1, count))


@pytest.mark.parametrize("count", [10, 3 * ROOM])
def test_a_reader_that_closes_early_does_not_stop_the_run(
    user: Any, tmp_path: Path, count: int
) -> None:
    """Nor hold it up, although nobody makes room any more."""
    path = tmp_path / "progress"
    items = user.note.remote_gen(str(path), count)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    wait_until(Path(f"{path}.done").exists, what="the end of the run", seconds=30)


def test_an_async_reader_can_close_early(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "progress"

    async def consume() -> None:
        items = user.note.remote_gen.aio(str(path), 3 * ROOM)
        assert await anext(items) == 0
        await items.aclose()
        await current().aclose()

    asyncio.run(consume())
    wait_until(Path(f"{path}.done").exists, what="the end of the run", seconds=30)


def test_large_items_are_stored_apart(user: Any) -> None:
    count, size = 12, 3_000_000  # several times as much as a container keeps unsent
    assert list(user.blobs.remote_gen(count, size)) == [bytes([n]) * size for n in range(count)]
    pattern = f"{current().keys.prefix}:*:item:*"
    current().run(ask_one(b"PING"))  # deletions go along with a later write
    assert current().run(ask_one(b"KEYS", pattern)) == []


def test_a_generator_can_be_run_right_here(user: Any) -> None:
    assert list(user.count.local(3)) == [0, 1, 2]

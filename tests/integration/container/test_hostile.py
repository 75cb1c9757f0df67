"""What user code raises while it is looked at ends as an outcome: no container dies, no caller waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.exception import (
    DeserializationError,
    ExecutionError,
    FunctionTimeoutError,
    RemoteError,
    SerializationError,
)
from qmodal.spec.options import validated_options
from tests.support.boxes import Box, Fleet
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "hostile.py"
KINDS = (
    *("RuntimeError", "RecursionError", "SystemExit", "KeyboardInterrupt", "GeneratorExit"),
    *("CancelledError", "StopIteration"),
)
FAILS_AT_IMPORT = """
class LuckError(Exception):
    def __str__(self):
        {text}

raise LuckError
"""
# What becomes of each way to resist, at the caller; an error of pickling that is an Exception stays.
WAYS: dict[str, tuple[type[BaseException], str]] = {
    "returns_unpicklable": (Exception, "{kind}|deep recursion"),
    "raises_hostile": (SerializationError, "HostileError: <its text cannot be made"),
    "raises_unrebuildable": (ExecutionError, "due to local error: .*{kind}"),
    "returns_unrebuildable": (ExecutionError, "Could not deserialize result .*{kind}"),
    "breaks_output": (ValueError, "said to a broken stream"),
}


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The program at work."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def check(error: BaseException, way: str, kind: str) -> None:
    expected, text = WAYS[way]
    assert isinstance(error, expected), told(error)
    with pytest.raises(expected, match=f"(?s){text.format(kind=kind)}"):
        raise type(error)(told(error))


def failure_of(call: Any, *args: Any) -> BaseException:
    with pytest.raises(BaseException, match=r"\A") as caught:
        call(*args)
    return caught.value


@pytest.mark.parametrize("way", WAYS)
def test_one_input_fails_with_what_it_raises_while_it_is_looked_at(user: Any, way: str) -> None:
    for kind in KINDS:
        check(failure_of(user.job.remote, way, kind), way, kind)
        check(failure_of(user.waiting_job.remote, way, kind), way, kind)


def test_the_container_lives_on(user: Any) -> None:
    before = user.job.remote("pid", "")
    for way in WAYS:
        failure_of(user.job.remote, way, "SystemExit")
    assert user.job.remote("pid", "") == before


def test_each_input_of_a_map_fails_for_itself(user: Any) -> None:
    hostile = [(way, kind) for way in WAYS for kind in KINDS]
    inputs = [*[("pid", "")] * 60, *hostile, ("pid", "")]
    results = list(user.job.starmap(inputs, return_exceptions=True))
    for (way, kind), error in zip(hostile, results[60:-1], strict=True):
        check(error, way, kind)
    assert type(results[-1]) is int


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_raise_when_they_are_rebuilt_fail_their_input(user: Any, kind: str) -> None:
    before = user.takes.remote([1])
    error = failure_of(user.takes.remote, user.Rebuilt(kind, in_container=True))
    assert isinstance(error, DeserializationError)
    assert kind in str(error)
    assert user.takes.remote([1]) == before


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_raise_when_they_are_pickled_are_refused(user: Any, kind: str) -> None:
    for send in (user.takes.remote, user.takes.spawn, lambda x: list(user.takes.map([x]))):
        error = failure_of(send, user.Unpicklable(kind))
        assert isinstance(error, SerializationError)
        assert re.search(f"argument 1 of type Unpicklable .*({kind}|deep recursion)", str(error))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["items", "waiting_items"])
def test_a_generators_item_fails_as_a_result_does(user: Any, name: str, way: str) -> None:
    for kind in KINDS:
        items = getattr(user, name).remote_gen(way, kind)
        assert next(items) == 1
        check(failure_of(next, items), way, kind)


@pytest.mark.parametrize("what", ["streams", "hooks"])
def test_a_failure_is_described_without_what_user_code_has_removed(user: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        user.tampers.remote(what)


def test_a_text_that_is_never_done_is_a_timeout(user: Any) -> None:
    with pytest.raises(FunctionTimeoutError):
        user.hangs.remote()


def test_causes_without_end_are_left_out(user: Any) -> None:
    with pytest.raises(user.EndlessError, match="of many") as caught:
        user.endless.remote()
    assert "in endless" in caught.value.__notes__[0]


def test_what_an_enter_hook_raises_is_told_whatever_it_is(user: Any) -> None:
    with pytest.raises(ExecutionError, match=r"(?s)could not be started: .*HostileError"):
        user.Entered(kind="SystemExit").answer.remote()


def test_an_error_of_the_inputs_own_is_no_cancellation(user: Any, tmp_path: Path) -> None:
    for name, how in (("cancels_itself", ()), ("awaits_cancelled", ("task",))):
        path = tmp_path / name
        with pytest.raises(asyncio.CancelledError) as caught:
            getattr(user, name).remote(str(path), *how)
        assert path.read_text() == "xx"
        assert f"in {name}" in caught.value.__notes__[0]
    with pytest.raises(asyncio.CancelledError):
        user.awaits_cancelled.remote(str(tmp_path / "scope"), "scope")
    assert (tmp_path / "scope").read_text() == "xx"


def test_a_generators_own_cancelled_error_comes_behind_its_items(user: Any) -> None:
    items = user.yields_cancelled.remote_gen(3)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(asyncio.CancelledError, match="mine"):
        next(items)


def test_an_inputs_own_cancelled_error_cancels_no_task_of_its_caller(user: Any) -> None:
    async def calls() -> Any:
        async def remote() -> None:
            await user.stops.remote.aio("CancelledError")

        async def mapped() -> None:
            async for _ in user.stops.map.aio(["CancelledError"]):
                raise AssertionError

        try:
            return await asyncio.gather(remote(), mapped(), return_exceptions=True)
        finally:
            await clients.current().aclose()

    for error in asyncio.run(calls()):
        assert isinstance(error, RemoteError)
        assert "CancelledError: 7" in str(error)
        assert isinstance(error.__cause__, asyncio.CancelledError)


def test_a_stop_iteration_of_a_job_keeps_its_type_where_python_lets_it(user: Any) -> None:
    for call in (user.stops.remote, lambda kind: user.stops.spawn(kind).get()):
        error = failure_of(call, "StopIteration")
        assert type(error) is StopIteration
        assert error.value == 7
    (error,) = user.stops.map(["StopIteration"], return_exceptions=True)
    assert type(error) is StopIteration

    async def calls() -> None:
        try:
            await user.stops.remote.aio("StopIteration")
        finally:
            await clients.current().aclose()

    # As in any generator and coroutine: there it would be the end, and what failed would be missing.
    for ended in (lambda: list(user.stops.map(["StopIteration"])), lambda: asyncio.run(calls())):
        error = failure_of(ended)
        assert type(error) is RuntimeError
        assert type(error.__cause__) is StopIteration


def test_a_stop_async_iteration_of_a_job_keeps_its_type(user: Any) -> None:
    async def calls() -> None:
        try:
            await user.stops.remote.aio("StopAsyncIteration")
        finally:
            await clients.current().aclose()

    assert type(failure_of(user.stops.remote, "StopAsyncIteration")) is StopAsyncIteration
    assert type(failure_of(asyncio.run, calls())) is StopAsyncIteration


def test_parameters_may_have_names_of_ours(user: Any) -> None:
    given = {"self": 1, "args": 2, "kwargs": 3, "error": 4}
    assert user.named.remote(**given) == (1, 2, 3, 4)
    assert user.named.spawn(**given).get() == (1, 2, 3, 4)
    assert user.named.local(**given) == (1, 2, 3, 4)
    assert list(user.named.map([1], kwargs={"args": 2, "kwargs": 3})) == [(1, 2, 3, 0)]
    assert list(user.counted.remote_gen(self=2)) == [0, 1]

    async def calls() -> tuple[Any, ...]:
        try:
            items = [item async for item in user.counted.remote_gen.aio(self=2)]
            return items, await user.named.remote.aio(**given)
        finally:
            await clients.current().aclose()

    assert asyncio.run(calls()) == ([0, 1], (1, 2, 3, 4))


@pytest.mark.leaves_keys
@pytest.mark.parametrize("fork", [True, False])
@pytest.mark.parametrize("text", ["raise SystemExit", "return 'half a pair: \\ud83d'"])
def test_an_import_that_fails_is_reported_whatever_it_raises(
    fleet: Fleet, box: Box, tmp_path: Path, text: str, *, fork: bool
) -> None:
    pools = fleet.publish(
        tmp_path / "src", FAILS_AT_IMPORT.format(text=text), {"f": validated_options(fork=fork)}
    )
    report = fleet.until(box, fleet.assign(box, pools["f"]), "failed")
    assert "LuckError: " in report.detail
    assert "in <module>" in report.detail


def test_a_map_ends_when_its_async_inputs_are_cancelled_from_within(user: Any) -> None:
    async def ways() -> AsyncIterator[str]:
        yield "pid"
        raise asyncio.CancelledError("mine")

    async def calls() -> list[Any]:
        try:
            return [pid async for pid in user.job.map.aio(ways(), [""] * 3)]
        finally:
            await clients.current().aclose()

    with pytest.raises(asyncio.CancelledError, match="mine"):
        asyncio.run(calls())


def test_what_an_exit_hook_raises_is_in_the_log_whatever_it_is(user: Any) -> None:
    assert user.Exiting(kind="SystemExit").answer.remote() == 42

    def printed() -> bool:
        return any("HostileError: <its text" in line.message for line in user.app.logs.tail(1000))

    wait_until(printed, what="the container has ended and said why")

"""Statistics of functions, counted by real containers: exactly what callers have called, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client.client import current
from qmodal.store.history.statistics import BUCKETS, Series, bucket_of, sum_of
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "boxes" / "counted.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program; one stack for all tests of this module."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


def counts(function: str) -> dict[str, int]:
    """What the server has of the function."""
    client = current()
    series = Series(client.settings.environment, "counted", function)
    return client.run(client.statistics.read([series])).get(series, {})


def once(function: str, is_so: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """The counts, as soon as that is so of them."""

    def found() -> dict[str, int] | None:
        seen = counts(function)
        return seen if seen and is_so(seen) else None

    seen = wait_until(found, what=f"the counts of {function}", seconds=40, pause=0.1)
    assert seen is not None
    return seen


def number(seen: dict[str, int], histogram: str) -> int:
    return sum(seen.get(bucket_of(histogram, at), 0) for at in range(BUCKETS))


def test_calls_and_maps_are_counted_exactly(user: Any) -> None:
    for x in range(7):
        user.square.remote(x)
    assert len(list(user.square.map(range(5_000)))) == 5_000
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(user.square.remote, range(200)))
    # A worker that reads between two counts of an input has the second one with its next look.
    times = ("run", "wait", "total")
    seen = once(
        "square",
        lambda seen: (
            seen.get("value", 0) >= 5_207 and all(number(seen, each) >= 5_207 for each in times)
        ),
    )
    assert seen["value"] == 5_207
    assert number(seen, "run") == number(seen, "wait") == number(seen, "total") == 5_207
    assert seen[sum_of("total")] == seen[sum_of("wait")] + seen[sum_of("run")]
    assert 0 < seen["busy"] <= seen["alive"]
    assert 1 <= number(seen, "start") <= seen["starts"]  # another one may be starting


def test_failures_are_counted_by_their_kind(user: Any) -> None:
    for x in range(3):
        with suppress(ValueError):
            user.fails.remote(x)
    list(user.fails.map(range(20), return_exceptions=True))
    assert once("fails", lambda seen: seen.get("error", 0) >= 23)["error"] == 23
    assert "value" not in counts("fails")


def test_retries_are_counted_beside_the_outcome(user: Any, tmp_path: Path) -> None:
    assert user.flaky.remote(str(tmp_path)) == "at last"
    seen = once("flaky", lambda seen: "value" in seen and number(seen, "run") >= 3)
    assert (seen["value"], seen["retries"], seen.get("error", 0)) == (1, 2, 0)
    assert number(seen, "run") == 3


def test_a_timeout_is_counted_as_one(user: Any) -> None:
    with suppress(qmodal.exception.FunctionTimeoutError):
        user.slow.remote(60)
    seen = once("slow", lambda seen: "timeout" in seen and seen.get("busy", 0) >= 900_000)
    assert seen["timeout"] == 1


def test_a_container_that_is_killed_takes_no_count_with_it(user: Any) -> None:
    for _ in range(9):
        user.pid.remote()
    call = user.pid.spawn(60.0)
    victim = user_pid(call)
    os.kill(victim, signal.SIGKILL)
    for _ in range(4):
        user.square.remote(1)
    call.cancel()
    assert user.pid.remote() != victim
    seen = once(
        "pid",
        lambda seen: (
            seen.get("value", 0) >= 10 and "end:crashed" in seen and seen.get("starts", 0) >= 2
        ),
    )
    assert (seen["value"], seen["end:crashed"], seen["starts"]) == (10, 1, 2)


def user_pid(call: Any) -> int:
    """The process of the container that has begun to run the call."""

    def found() -> int:
        client = current()
        listed = client.run(client.fleet.living_containers())
        reports = [each for box in listed.values() for each in box if each.function == "pid"]
        held = client.run(client.observing.observe([each.pool for each in reports]))
        is_held = any(seen is not None and seen.running() for seen in held)
        return reports[0].pid if reports and is_held else 0

    return wait_until(found, what="the input has begun", seconds=30)


def test_an_input_that_kills_its_container_is_given_back_and_counted(
    user: Any, tmp_path: Path
) -> None:
    user.deadly.remote(str(tmp_path))
    seen = once("deadly", lambda seen: {"value", "end:crashed", "redeliveries"} <= seen.keys())
    assert (seen["value"], seen["redeliveries"], seen["end:crashed"]) == (1, 1, 1)


def test_inputs_that_run_side_by_side_are_counted(user: Any) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(user.together.remote, range(100)))
    assert len(list(user.together.map(range(300)))) == 300
    seen = once("together", lambda seen: seen.get("value", 0) >= 400)
    assert seen["value"] == 400
    assert 0 < seen["busy"] <= seen["alive"]

"""Containers that run several inputs at once, as programs use them, on the embedded stack."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import qmodal
from qmodal.client.client import current
from qmodal.exception import (
    FunctionTimeoutError,
    InvalidError,
    RemoteError,
    SerializationError,
)
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "side_by_side.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program; one stack for all tests of this module."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty one, where inputs show that they are there."""
    made = tmp_path / "meet"
    made.mkdir()
    return made


def spawned(function: Any, *arguments: tuple[Any, ...]) -> list[qmodal.FunctionCall[Any]]:
    return [function.spawn(*each) for each in arguments]


def there(pattern: Path, count: int = 1) -> Callable[[], bool]:
    """Whether so many files match."""
    return lambda: len(list(pattern.parent.glob(pattern.name))) >= count


@pytest.mark.parametrize("name", ["meet", "meet_in_threads"])
def test_inputs_run_at_once_in_one_container_each_with_its_own_ids(
    user: Any, name: str, folder: Path
) -> None:
    calls = spawned(getattr(user, name), *((str(folder), n, 20) for n in range(20)))
    found = [call.get(timeout=20) for call in calls]
    assert len({pid for pid, *_ in found}) == 1
    assert [call_id for _, _, call_id, _ in found] == [call.object_id for call in calls]
    assert len({input_id for _, input_id, *_ in found}) == 20
    assert not any(is_local for *_, is_local in found)


def test_no_more_run_at_once_than_max_inputs(user: Any, folder: Path) -> None:
    calls = spawned(user.meet, *((str(folder), n, 25) for n in range(25)))
    wait_until(there(folder / "*", 20), what="twenty run")
    observed = [len(list(folder.iterdir())) for _ in range(20)]
    assert max(observed) == 20
    for n in range(20, 25):
        (folder / f"other-{n}").touch()
    assert len([call.get(timeout=20) for call in calls]) == 25


def test_a_map_is_run_side_by_side(user: Any, folder: Path) -> None:
    found = list(user.meet.map([str(folder)] * 20, range(20), [20] * 20))
    assert len({pid for pid, *_ in found}) == 1


def test_sync_and_async_methods_share_a_container_and_its_slots(user: Any, folder: Path) -> None:
    mixed = user.Mixed()
    calls = [
        (mixed.waits if n % 2 else mixed.blocks).spawn(str(folder), str(n), 10) for n in range(10)
    ]
    found = [call.get(timeout=20) for call in calls]
    assert len({pid for pid, *_ in found}) == 1
    assert all(entries == ["first", "second"] for _, entries, _ in found)
    assert [last for *_, last in found] == [False, True] * 5  # no main thread; the hook's loop


def test_what_enter_hooks_set_is_seen_by_tasks_and_threads(user: Any) -> None:
    assert user.Mixed().variable.remote() == "variable"
    assert user.Mixed().variable_here.remote() == "variable"


def test_generators_run_side_by_side(user: Any, tmp_path: Path) -> None:
    waiting = user.acount.remote_gen(3, str(tmp_path / "go"))
    assert next(waiting) == 0
    assert list(user.acount.remote_gen(500)) == list(range(500))
    assert list(user.count.remote_gen(500)) == list(range(500))
    assert list(user.Mixed(scale=2).up.remote_gen(3)) == [0, 2, 4]
    (tmp_path / "go").touch()
    assert list(waiting) == [1, 2]


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_an_input_that_fails_has_its_own_retries(user: Any, tmp_path: Path, how: str) -> None:
    assert user.flaky.remote(str(tmp_path / "failed"), how) == how


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("cancel all", None),
        ("stop loop", "stopped"),
        ("background exit", "exited"),
        ("huge", bytes(3_000_000)),
        ("unpicklable", SerializationError),
        ("unpicklable result", TypeError),
        ("exit", SystemExit),
    ],
)
def test_what_one_input_does_to_itself_or_the_loop_leaves_the_others_alone(
    user: Any, tmp_path: Path, how: str, expected: Any
) -> None:
    beside = None
    if how != "cancel all":  # which is for the tasks of others, too
        beside = user.hostile.spawn("wait", str(tmp_path / "go"))
    if isinstance(expected, type):
        with pytest.raises(expected):
            user.hostile.remote(how)
    elif expected is not None:
        assert user.hostile.remote(how) == expected
    else:
        assert user.hostile.remote(how) == "cancelled"
    (tmp_path / "go").touch()
    assert beside is None or beside.get(timeout=10) == "wait"
    assert user.hostile.remote("wait", str(tmp_path / "go")) == "wait"


@pytest.mark.parametrize("how", ["value", "awaitable"])
def test_a_child_that_user_code_forks_in_a_thread_ends_there(user: Any, how: str) -> None:
    assert user.forking.remote(how) == how
    assert user.forking.remote(how) == how


def test_an_async_input_that_runs_out_of_time_ends_alone(user: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    late = user.patient.spawn(str(tmp_path / "never"))
    with pytest.raises(FunctionTimeoutError):
        late.get(timeout=20)
    go.touch()
    assert user.patient.remote(str(go)) == str(go)


def test_a_time_limit_holds_although_user_code_took_the_signal(user: Any, tmp_path: Path) -> None:
    user.hostile.remote("signal")
    call = user.hostile.spawn("wait", str(tmp_path / "never"))
    wait_until(lambda: user.hostile.get_current_stats().num_running_inputs == 1, what="it runs")
    call.cancel()
    with pytest.raises(RemoteError):
        call.get(timeout=5)
    wait_until(lambda: user.hostile.get_current_stats().num_running_inputs == 0, what="it ended")


def test_a_cancelled_async_input_is_the_only_one_that_ends(user: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    other = user.cancellable.spawn(str(go), str(tmp_path / "other"))
    call = user.cancellable.spawn(str(tmp_path / "never"), str(tmp_path / "it"))
    wait_until(there(tmp_path / "*.runs", 2), what="both run")
    call.cancel()
    with pytest.raises(RemoteError):
        call.get(timeout=5)
    wait_until(there(tmp_path / "it.cancelled"), what="it is told")
    third = user.cancellable.spawn(str(go), str(tmp_path / "third"))
    wait_until(there(tmp_path / "third.runs"), what="the container goes on")
    go.touch()
    assert other.get(timeout=10) == third.get(timeout=10)
    assert not (tmp_path / "other.cancelled").exists()


def test_many_are_cancelled_at_once(user: Any, tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    call = user.cancellable.spawn_map([never] * 20, [str(tmp_path / str(n)) for n in range(20)])
    wait_until(there(tmp_path / "*.runs", 20), what="all run")
    call.cancel()
    wait_until(there(tmp_path / "*.cancelled", 20), what="all are told", seconds=20)


def test_a_cancelled_sync_input_takes_its_container_along_and_others_run_again(
    user: Any, tmp_path: Path
) -> None:
    go, mark = tmp_path / "go", tmp_path / "other"
    call = user.threaded.spawn(str(tmp_path / "never"), str(tmp_path / "it"))
    others = spawned(user.threaded, *[(str(go), str(mark))] * 3)
    wait_until(there(tmp_path / "*.*", 2), what="they run")
    call.cancel()
    with pytest.raises(RemoteError):
        call.get(timeout=5)
    wait_until(there(tmp_path / "other.*", 2), what="they run again", seconds=20)
    go.touch()
    before = {int(path.suffix[1:]) for path in tmp_path.glob("it.*")}
    after = {call.get(timeout=20) for call in others}
    assert len(before) == 1
    assert before.isdisjoint(after)


def test_a_sync_input_that_runs_out_of_time_takes_its_container_along(
    user: Any, tmp_path: Path
) -> None:
    never, go = str(tmp_path / "never"), tmp_path / "go"
    late = user.slow.spawn(str(tmp_path / "late"), never)
    wait_until(there(tmp_path / "late.*"), what="it runs")
    wait_until(lambda: late_has_run(late), what="half of its time is over")
    beside = user.slow.spawn(str(tmp_path / "beside"), str(go))
    with pytest.raises(FunctionTimeoutError):
        late.get(timeout=20)
    go.touch()
    assert beside.get(timeout=20)


def late_has_run(call: Any) -> bool:
    with pytest.raises(TimeoutError):
        call.get(timeout=0.4)
    return True


def test_a_variant_runs_side_by_side_in_a_pool_of_its_own(user: Any, folder: Path) -> None:
    plain_pid = user.single.remote(1)[1]
    variant = user.asingle.with_concurrency(max_inputs=4).with_options(max_containers=1)
    calls = spawned(variant, *((str(folder), n, 4) for n in range(4)))
    pids = {call.get(timeout=20) for call in calls}
    assert len(pids) == 1
    assert plain_pid not in pids
    assert variant.info().concurrency_info.max_inputs == 4


def test_errors_of_the_decorator_name_what_is_wrong() -> None:
    with pytest.raises(TypeError, match="missing required argument"):
        qmodal.concurrent()(lambda: None)
    with pytest.raises(InvalidError, match="`target_inputs` parameter cannot be greater"):
        qmodal.concurrent(max_inputs=2, target_inputs=3)
        qmodal.concurrent(max_inputs=2, target_inputs=3)(lambda: None)
    with pytest.raises(InvalidError):
        qmodal.concurrent(max_inputs=1001)(lambda: None)


def test_hundreds_of_asyncio_callers_share_one_container(user: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()

    async def call_all() -> set[str]:
        calls = [user.cancellable.remote.aio(str(go), str(tmp_path / "it")) for _ in range(300)]
        found = set(await asyncio.gather(*calls))
        await current().aclose()
        return found

    assert len(asyncio.run(call_all())) == 1


def test_the_stats_count_what_runs_side_by_side(user: Any, folder: Path) -> None:
    assert user.meet.get_current_stats().num_running_inputs == 0
    calls = spawned(user.meet, *((str(folder), n, 21) for n in range(15)))
    wait_until(there(folder / "*", 15), what="fifteen run")

    def stats() -> Any:
        return user.meet.get_current_stats()

    wait_until(lambda: stats().num_running_inputs == 15, what="they are counted")
    assert stats().backlog == 0
    assert stats().num_total_runners == 1
    assert stats().input_headroom == 5
    calls += spawned(user.meet, *((str(folder), n, 21) for n in range(15, 23)))
    wait_until(lambda: stats().num_running_inputs == 20, what="it is full")
    assert stats().backlog == 3
    (folder / "last").touch()
    for call in calls:
        call.get(timeout=20)


@pytest.mark.parametrize(("callers", "containers"), [(100, 1), (250, 3)])
def test_a_pool_is_sized_by_what_a_container_may_run(
    user: Any, folder: Path, callers: int, containers: int
) -> None:
    found = list(user.crowd.map([str(folder)] * callers, range(callers), [callers] * callers))
    assert len(set(found)) == containers
    stats = user.crowd.get_current_stats
    wait_until(lambda: stats().num_total_runners == 0, what="idle ones leave", seconds=30)


def test_a_burst_over_the_target_is_taken_at_once_while_more_containers_start(
    user: Any, folder: Path
) -> None:
    calls = spawned(user.burst, (str(folder), 0, 21))
    wait_until(there(folder / "*"), what="the first one runs")
    calls += spawned(user.burst, *((str(folder), n, 21) for n in range(1, 20)))
    wait_until(there(folder / "*", 20), what="all run")
    stats = user.burst.get_current_stats
    wait_until(lambda: stats().num_total_runners >= 4, what="there are as many as planned")
    (folder / "last").touch()
    assert len([call.get(timeout=20) for call in calls]) == 20
    assert stats().num_total_runners == 4


def test_ctrl_c_of_user_code_gives_its_neighbours_to_other_containers(
    user: Any, tmp_path: Path
) -> None:
    go, mark = tmp_path / "go", tmp_path / "it"
    calls = spawned(user.threaded, *[(str(go), str(mark))] * 3)
    wait_until(there(tmp_path / "it.*"), what="they run")
    first = int(next(tmp_path.glob("it.*")).suffix[1:])
    psutil.Process(first).send_signal(signal.SIGINT)
    wait_until(lambda: not psutil.pid_exists(first), what="it ends", seconds=60)
    wait_until(there(tmp_path / "it.*", 2), what="they run again", seconds=60)
    go.touch()
    assert {call.get(timeout=20) for call in calls}.isdisjoint({first})


def test_ctrl_c_that_a_thread_of_user_code_is_given_ends_its_container_at_once(
    user: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    beside = user.interrupted.spawn(str(go), str(tmp_path / "beside"))
    wait_until(there(tmp_path / "beside.*"), what="one runs")
    itself = user.interrupted.spawn(str(go), str(tmp_path / "itself"), True)
    wait_until(there(tmp_path / "*.*", 4), what="both run again", seconds=60)
    go.touch()
    first = {int(path.suffix[1:]) for path in tmp_path.glob("itself.first.*")}
    assert len(first) == 1
    assert {beside.get(timeout=20), itself.get(timeout=20)}.isdisjoint(first)


def test_what_an_interrupted_container_gives_back_does_not_wait_for_its_exit_hooks(
    user: Any, tmp_path: Path
) -> None:
    go, mark = tmp_path / "go", tmp_path / "it"
    call = user.Lingering().run.spawn(str(go), str(mark))
    wait_until(there(tmp_path / "it.*"), what="it runs")
    first = int(next(tmp_path.glob("it.*")).suffix[1:])
    psutil.Process(first).send_signal(signal.SIGINT)
    wait_until(there(tmp_path / "it.*", 2), what="it runs again", seconds=20)
    assert psutil.pid_exists(first)
    go.touch()
    assert call.get(timeout=20) != first


@pytest.mark.skipif(sys.platform != "linux", reason="what a thread blocks stands in /proc")
def test_signals_are_given_to_threads_of_user_code_but_not_to_ours(user: Any) -> None:
    assert user.deaf_threads.remote() == {
        "MainThread": False,
        "input": False,
        "claim": True,
        "settle": True,
    }


def test_async_exit_hooks_run_when_the_container_is_not_wanted_any_more(
    user: Any, tmp_path: Path
) -> None:
    mixed = user.Mixed.with_options(scaledown_window=2)()
    mixed.note_exit.remote(str(tmp_path / "left"))
    begin = time.monotonic()
    wait_until((tmp_path / "left").exists, what="the hook runs", seconds=30)
    assert time.monotonic() - begin < 30

"""Functions that take their inputs in batches, as programs use them, on the embedded stack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.exception import (
    Error,
    FunctionTimeoutError,
    InvalidError,
    RemoteError,
)
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "side_by_side.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program; one stack for all tests of this module."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


def outcomes(calls: list[Any]) -> list[Any]:
    """What each returned or raised."""
    return [_outcome(call) for call in calls]


def _outcome(call: Any) -> Any:
    try:
        return call.get(timeout=20)
    except (Error, TypeError, ValueError) as error:
        return error


@pytest.mark.parametrize("name", ["add", "aadd"])
def test_positional_and_keyword_callers_share_a_batch(user: Any, name: str) -> None:
    function = getattr(user, name)
    function.remote(0, 0)  # its container is there
    calls = [
        function.spawn(1, 10),
        function.spawn(2, y=20),
        function.spawn(y=30, x=3),
        function.spawn(4, 40),
    ]
    assert [total for total, _ in outcomes(calls)] == [11, 22, 33, 44]
    assert {size for _, size in outcomes(calls)} == {4}


def test_an_input_without_company_waits_for_wait_ms_and_no_longer(user: Any) -> None:
    user.add.remote(0, 0)
    begin = time.monotonic()
    assert user.add.remote(1, 2) == (3, 1)
    assert time.monotonic() - begin >= 0.3


def test_a_backlog_makes_full_batches(user: Any) -> None:
    sizes = [size for _, size in user.add.map(range(80), range(80))]
    assert sizes.count(4) >= 72
    assert max(sizes) == 4


def test_results_come_to_who_asked(user: Any) -> None:
    found = [total for total, _ in user.aadd.map(range(200), range(200))]
    assert found == [2 * n for n in range(200)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("tuple", "Output of batched function wrong must be a list."),
        ("short", "Output of batched function wrong must be a list of equal length as its inputs."),
        ("raise", "raised for all"),
    ],
)
def test_what_fails_fails_for_all_of_the_batch(user: Any, bad: str, message: str) -> None:
    user.wrong.remote("ready")
    found = outcomes([user.wrong.spawn(each) for each in ("one", bad, "two", "three")])
    assert [str(each) for each in found] == [message] * 4
    kind = ValueError if bad == "raise" else InvalidError
    assert all(type(each) is kind for each in found)


def test_a_caller_with_the_wrong_arguments_fails_the_batch(user: Any) -> None:
    user.wrong.remote("ready")
    found = outcomes([user.wrong.spawn("one"), user.wrong.spawn("two", "many"), user.wrong.spawn()])
    assert [type(each) for each in found] == [TypeError] * 3


def test_a_result_that_cannot_be_pickled_fails_its_caller_only(user: Any) -> None:
    user.wrong.remote("ready")
    one, other = outcomes([user.wrong.spawn("one"), user.wrong.spawn("lock")])
    assert one == "one"
    assert isinstance(other, TypeError)


def test_each_input_of_a_batch_has_its_own_retries(user: Any, tmp_path: Path) -> None:
    paths = [str(tmp_path / str(n)) for n in range(4)]
    assert all(times >= 2 for times in user.retried.map(paths))


def test_plain_code_of_a_batch_has_the_main_thread_and_may_run_a_loop(user: Any) -> None:
    assert user.in_batch.remote("thread") is True
    assert user.in_batch.remote("loop") == 1


def test_a_child_that_user_code_forks_ends_where_it_returns(user: Any) -> None:
    assert list(user.in_batch.map(["fork"] * 3)) == ["fork"] * 3
    assert user.in_batch.remote("again") == "again"


def test_a_batch_that_runs_out_of_time_is_interrupted_and_its_container_goes_on(
    user: Any, tmp_path: Path
) -> None:
    never, go = str(tmp_path / "never"), tmp_path / "go"
    found = outcomes([user.late.spawn(never) for _ in range(2)])
    assert [type(each) for each in found] == [FunctionTimeoutError] * 2
    go.touch()
    assert user.late.remote(str(go)) == str(go)


def test_cancelling_one_of_a_batch_leaves_the_others(user: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    function = user.late.with_options(timeout=60)
    go.touch()
    function.remote(str(go))
    go.unlink()
    (tmp_path / "go.runs").unlink()
    one, other = function.spawn(str(go)), function.spawn(str(go))
    wait_until((tmp_path / "go.runs").exists, what="they run")
    one.cancel()
    with pytest.raises(RemoteError):
        one.get(timeout=5)
    go.touch()
    assert other.get(timeout=10) == str(go)


def test_what_is_cancelled_before_its_batch_starts_does_not_start_with_it(
    user: Any, tmp_path: Path
) -> None:
    function = user.late.with_options(timeout=60).with_batching(max_batch_size=4, wait_ms=1000)
    unwanted, go = function.spawn(str(tmp_path / "never")), tmp_path / "go"
    wait_until(lambda: function.get_current_stats().num_running_inputs == 1, what="it is claimed")
    wanted = function.spawn(str(go))
    unwanted.cancel()
    go.touch()
    assert wanted.get(timeout=20) == str(go)


def test_a_batch_of_which_nothing_is_wanted_is_interrupted(user: Any, tmp_path: Path) -> None:
    function = user.late.with_options(timeout=60)
    calls = [function.spawn(str(tmp_path / "never")) for _ in range(2)]
    wait_until((tmp_path / "never.runs").exists, what="they run")
    for call in calls:
        call.cancel()
    (tmp_path / "go").touch()
    assert function.remote(str(tmp_path / "go")) == str(tmp_path / "go")


def test_several_batches_run_at_once(user: Any, tmp_path: Path) -> None:
    folder = tmp_path / "meet"
    folder.mkdir()
    calls = [user.both.spawn(str(folder), str(n), 6) for n in range(6)]
    assert outcomes(calls) == [2] * 6


def test_a_method_can_be_batched(user: Any) -> None:
    model = user.Model(factor=3)
    found = list(model.predict.map(range(32)))
    assert [value for value, _ in found] == [3 * n for n in range(32)]
    assert max(size for _, size in found) == 8


def test_a_variant_batches_in_a_pool_of_its_own(user: Any) -> None:
    variant = user.listed.with_batching(max_batch_size=8, wait_ms=50)
    assert list(variant.map(range(40))) == list(range(1, 41))
    assert user.listed.remote([1, 2]) == [2, 3]


def test_a_variant_of_a_generator_or_of_several_methods_cannot_batch(user: Any) -> None:
    batching = {"max_batch_size": 2, "wait_ms": 1}
    with pytest.raises(InvalidError, match="generator"):
        next(user.count.with_batching(**batching).remote_gen(1))
    with pytest.raises(InvalidError, match="no other method"):
        user.Mixed.with_batching(**batching)().variable.remote()


def test_local_calls_pass_lists(user: Any) -> None:
    assert user.add.local([1, 2], [3, 4]) == [(4, 2), (6, 2)]


def test_errors_of_the_decorator_name_what_is_wrong() -> None:
    for size, wait in ((0, 1), (1001, 1), (1, -1), (1, 600_001)):
        with pytest.raises(InvalidError):
            qmodal.batched(max_batch_size=size, wait_ms=wait)(lambda x: x)
    with pytest.raises(InvalidError, match="default"):
        qmodal.batched(max_batch_size=2, wait_ms=1)(lambda x=1: x)

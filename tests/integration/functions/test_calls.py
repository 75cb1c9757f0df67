"""Calls as programs make them, on the embedded stack: a real server, worker and containers."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.exception import (
    CallCancelled,
    DeprecationError,
    ExecutionError,
    FunctionTimeoutError,
    InvalidError,
    NotFoundError,
    OutputExpiredError,
    RemoteError,
    SerializationError,
    WorkerLost,
)
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "everything.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program; one stack for all tests of this module."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


def test_a_call_returns_the_result(user: Any) -> None:
    assert user.square.remote(7) == 49


def test_an_input_knows_where_it_runs(user: Any) -> None:
    call = user.whoami.spawn()
    seen = call.get(timeout=30)
    assert seen["pid"] != os.getpid()
    assert seen["call"] == call.object_id
    assert seen["input"] == f"in-{call.object_id[3:]}-0"
    assert seen["local"] is False
    assert qmodal.is_local()
    assert qmodal.current_input_id() is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**70,
        float("inf"),
        b"\x00\xff",
        "\ud800",
        (1, (2, [3])),
        {1: "a", ("b",): {3}},
        b"x" * 100_000,
        b"y" * 2_000_000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_exactly(user: Any, value: Any) -> None:
    args, kwargs = user.echo.remote(value, named=value)
    assert args == (value,)
    assert kwargs == {"named": value}
    assert type(args[0]) is type(value)


def test_the_original_exception_is_raised_with_the_remote_traceback(user: Any) -> None:
    with pytest.raises(user.OddError, match="no luck") as caught:
        user.fail.remote("no luck")
    (note,) = caught.value.__notes__
    assert ", fail, input 0 of fc-" in note.partition("\n")[0]
    assert 'File "everything.py", line' in note
    assert "in fail" in note


def test_a_failed_map_names_the_input(user: Any) -> None:
    with pytest.raises(user.OddError) as caught:
        list(user.fail.map(["no", "luck"], order_outputs=False))
    assert re.search(r", fail, input [01] of fc-\w+\)", caught.value.__notes__[0])


def test_a_failure_says_in_which_attempt(user: Any) -> None:
    app = qmodal.App("attempts")

    @app.function(serialized=True, retries=1, timeout=1)
    def give_up(seconds: float) -> None:
        import time

        time.sleep(seconds)
        raise ValueError("no luck")

    with app.run():
        late = give_up.spawn(60)
        with pytest.raises(ValueError, match="no luck") as caught:
            give_up.remote(0)
        with pytest.raises(FunctionTimeoutError) as told:
            late.get(timeout=60)
        assert (late.done(), late.status().name) == (True, "TIMEOUT")
    assert "give_up, attempt 2 of 2, input 0 of fc-" in caught.value.__notes__[0]
    of = f"input 0 of {late.object_id}"
    assert str(told.value).endswith(f"give_up, attempt 2 of 2 ran longer than 1 s ({of})")


def test_an_exception_that_cannot_be_rebuilt_still_arrives(user: Any) -> None:
    with pytest.raises(ExecutionError, match="Could not deserialize remote exception"):
        user.fail_stubborn.remote()


def test_system_exit_is_a_failure_of_the_input(user: Any) -> None:
    with pytest.raises(SystemExit):
        user.leave.remote(3)
    assert user.square.remote(2) == 4


def test_a_function_is_reached_through_all_apps_that_include_its_own(user: Any) -> None:
    inner, between, outer = qmodal.App("inner"), qmodal.App("between"), qmodal.App("outer")

    @inner.function(serialized=True)
    def triple(x: int) -> int:
        return 3 * x

    outer.include(between.include(inner))
    with outer.run():
        assert triple.remote(2) == 6
    with pytest.raises(ExecutionError, match="not been hydrated"):
        triple.remote(2)


def test_a_result_that_cannot_leave_its_process_is_an_error(user: Any) -> None:
    with pytest.raises((TypeError, SerializationError), match="pickle") as caught:
        user.unpicklable.remote()
    assert "The result of unpicklable, of type " in caught.value.__notes__[0]


def test_an_argument_that_cannot_be_pickled_is_refused_before_anything_is_sent(user: Any) -> None:
    with pytest.raises(SerializationError, match="argument 1"):
        user.square.remote(sys._getframe())


def test_async_functions_are_awaited_there(user: Any) -> None:
    assert user.add_slowly.remote(2, 3) == 5


def test_every_verb_has_an_asyncio_twin(user: Any) -> None:
    async def program() -> Any:
        call = await user.square.spawn.aio(3)
        total = await user.add_slowly.remote.aio(1, 2)
        squares = [x async for x in user.square.map.aio(range(5))]
        many = await asyncio.gather(*(user.square.remote.aio(n) for n in range(20)))
        result = await call.get.aio(timeout=30)
        await clients.current().aclose()
        return result, total, squares, many

    assert asyncio.run(program()) == (9, 3, [0, 1, 4, 9, 16], [n * n for n in range(20)])


def test_a_result_can_be_fetched_again_and_by_id(user: Any) -> None:
    call = user.square.spawn(5)
    assert call.get(timeout=30) == 25
    assert qmodal.FunctionCall.from_id(call.object_id).get() == 25
    assert pickle.loads(pickle.dumps(call)).get() == 25
    assert call.num_inputs() == 1


def test_a_result_that_is_not_ready_is_the_builtin_timeout(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "ready"
    call = user.hold.spawn(str(path))
    with pytest.raises(TimeoutError) as caught:
        call.get(timeout=0)
    assert not isinstance(caught.value, qmodal.Error)
    path.touch()
    assert call.get(timeout=30) == str(path)


def test_the_result_of_an_unknown_call_has_expired(user: Any) -> None:
    with pytest.raises(OutputExpiredError):
        qmodal.FunctionCall.from_id("fc-00" + "a" * 20).get(timeout=5)


def test_a_map_keeps_the_order(user: Any) -> None:
    assert list(user.square.map(range(2500))) == [n * n for n in range(2500)]
    assert sorted(user.square.map(range(50), order_outputs=False)) == [n * n for n in range(50)]
    assert list(user.square.map([])) == []
    assert list(user.echo.starmap([(1, 2), (3,)], kwargs={"k": 0})) == [
        ((1, 2), {"k": 0}),
        ((3,), {"k": 0}),
    ]


def test_a_map_raises_the_first_failure_or_returns_it(user: Any) -> None:
    with pytest.raises(user.OddError):
        list(user.fail.map(["a", "b"]))
    found = list(user.fail.map(["a", "b"], return_exceptions=True))
    assert [str(error) for error in found] == ["a", "b"]


def test_a_map_over_a_failing_iterator_raises_its_error(user: Any) -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        list(user.square.map(inputs()))


def test_a_spawned_map_holds_all_results(user: Any) -> None:
    call = user.square.spawn_map(range(250))
    assert call.num_inputs() == 250
    assert call.get(timeout=30, index=249) == 249**2
    assert list(call.iter(start=1, end=4)) == [1, 4, 9]


def test_generators_are_refused_by_remote(user: Any) -> None:
    with pytest.raises(InvalidError, match="generator"):
        user.counted.remote(3)


def test_two_parameter_sets_are_two_pools(user: Any) -> None:
    small, large = user.Model(name="a"), user.Model(name="a", size=5)
    name, loads, pid = small.describe.remote()
    assert (name, loads) == ("a", 2)
    assert large.describe.remote()[1] == 5
    assert large.describe.remote()[2] != pid
    assert user.Model(name="a", size=2).describe.remote()[2] == pid
    assert small.get_current_stats().num_total_runners == 1


def test_a_method_calls_another_through_self(user: Any) -> None:
    user.Model(name="chain").update_autoscaler(max_containers=2)
    assert user.Model(name="chain").through_self.remote()[0] == "chain"


def test_the_older_constructor_takes_any_picklable_argument(user: Any) -> None:
    assert user.Older({1, 2}, bar=2.5).show.remote() == ({1, 2}, 2.5)
    assert user.Older("x").show.remote() == ("x", 1.5)


def test_what_a_constructor_was_not_given_comes_from_the_class(user: Any) -> None:
    assert user.Record().values.remote() == (1, [])
    assert user.Record(tags=["a"]).values.remote() == (1, ["a"])


def test_an_instance_with_slots_serves_and_calls_itself(user: Any) -> None:
    instance = user.Slotted(3)
    instance.update_autoscaler(max_containers=2)
    assert instance.through_self.remote() == (3, True)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({}, InvalidError),
        ({"name": "a", "colour": 1}, InvalidError),
        ({"name": 3}, TypeError),
        ({"name": "a", "size": 2**64}, ValueError),
        ({"name": "a" * 20_000}, InvalidError),
    ],
)
def test_bad_parameters_are_refused_at_first_use(
    user: Any, kwargs: dict[str, Any], error: type[Exception]
) -> None:
    instance = user.Model(**kwargs)
    with pytest.raises(error):
        instance.describe.remote()


def test_handles_can_be_passed_as_arguments(user: Any) -> None:
    assert user.call_on.remote(user.square, 6) == 36


def test_an_input_that_runs_too_long_is_interrupted(user: Any) -> None:
    functions, began = (user.sleep, user.asleep), time.monotonic()
    for call in [function.spawn(20) for function in functions]:
        with pytest.raises(FunctionTimeoutError):
            call.get(timeout=30)
    assert time.monotonic() - began < 15
    assert [function.remote(0.0) for function in functions] == [0.0, 0.0]


def test_retries_are_made_and_counted(user: Any, tmp_path: Path) -> None:
    second = user.succeed_at.spawn(str(tmp_path / "a"), 2)
    never = user.succeed_at.spawn(str(tmp_path / "b"), 9)
    assert second.get(timeout=30) == 2
    with pytest.raises(user.OddError, match="attempt 3"):
        never.get(timeout=30)


def test_an_input_whose_container_is_killed_runs_again(user: Any, tmp_path: Path) -> None:
    assert user.crash_once.remote(str(tmp_path / "marker")) == "survived"


def test_an_input_that_always_kills_its_container_is_given_up(user: Any) -> None:
    with pytest.raises(WorkerLost, match=r"^crash, input 0 of fc-\w+ was given up"):
        user.crash.remote()


def test_a_queued_call_can_be_cancelled(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "ready"
    running, queued = user.hold.spawn(str(path)), user.hold.spawn(str(path))
    assert (queued.done(), queued.status().name) == (False, "PENDING")
    queued.cancel()
    with pytest.raises(CallCancelled, match="cancelled"):
        queued.get(timeout=5)
    assert (queued.done(), queued.status().name) == (True, "TERMINATED")
    path.touch()
    assert running.get(timeout=30) == str(path)
    assert (running.done(), running.status().name) == (True, "SUCCESS")


def test_a_running_call_can_be_cancelled(user: Any, tmp_path: Path) -> None:
    path = tmp_path / "ready"
    call = user.hold.spawn(str(path))
    wait_until(lambda: user.hold.get_current_stats().num_running_inputs == 1, what="it is claimed")
    call.cancel()
    with pytest.raises(RemoteError, match="cancelled"):
        call.get(timeout=5)
    path.touch()
    assert user.hold.remote(str(path)) == str(path)


def test_a_class_that_cannot_start_fails_its_callers(user: Any) -> None:
    with pytest.raises(ExecutionError, match="the model file is missing"):
        user.Broken().run.remote()


def test_stats_and_limits_are_those_of_the_pool(user: Any) -> None:
    with pytest.warns(DeprecationError, match="autoscaler"):
        settings = user.square.update_autoscaler(max_containers=3)
    assert settings.max_containers == 3
    user.square.remote(1)
    stats = user.square.get_current_stats()
    assert stats.backlog == 0
    assert stats.num_total_runners >= 1


def test_a_name_that_was_not_deployed_is_not_found(user: Any) -> None:
    with pytest.raises(NotFoundError, match="not found in environment"):
        qmodal.Function.from_name("nowhere", "f").remote()


def test_what_is_deployed_is_found_by_name_from_another_process(user: Any, tmp_path: Path) -> None:
    user_app = qmodal.App("shop")
    user_app.function(name="square")(user.square._raw())
    user_app.cls()(user.Older._user_cls)
    user_app.deploy()
    settings = clients.current().settings
    code = (
        "import qmodal\n"
        "f = qmodal.Function.from_name('shop', 'square').hydrate()\n"
        "print(f.remote(12), qmodal.Cls.from_name('shop', 'Older')('x').show.remote())\n"
        "try: qmodal.Function.from_name('shop', 'Older').remote()\n"
        "except qmodal.exception.NotFoundError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], **settings.to_environ()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("144 ('x', 1.5)\n"), done.stderr
    assert "Use `modal.Cls.from_name` instead" in done.stdout


def test_an_interrupted_program_ends_its_app_quietly(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import qmodal, time\n"
        "app = qmodal.App('mine')\n"
        "@app.function()\n"
        "def f(x): return x\n"
        "if __name__ == '__main__':\n"
        "    with app.run():\n"
        "        print(f.remote(1), flush=True)\n"
        "        time.sleep(60)\n"
        "    print('after')\n"
    )
    process = subprocess.Popen(
        [sys.executable, program.name],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "QMODAL_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert (rest, process.returncode) == ("after\n", 0)

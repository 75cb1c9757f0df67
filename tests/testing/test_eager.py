"""Eager mode: calls in this process have the values and errors that they have on a stack."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.exception import Error, ExecutionError, NotFoundError, UnimplementedError
from qmodal.testing import eager
from tests.support.stacks import own_home

program: Any = import_module("tests.testing.program")
OwnError = program.OwnError
COUNTER = "counter"
CASES: dict[str, Callable[[], Any]] = {
    "a value": lambda: program.add.remote(1),
    "a keyword": lambda: program.add.remote(1, y=2),
    "a spawned call": lambda: program.add.spawn(4).get(timeout=30),
    "a call by its id": lambda: qmodal.FunctionCall.from_id(program.add.spawn(4).object_id).get(),
    "gathered calls": lambda: qmodal.FunctionCall.gather(
        program.add.spawn(1), program.later.spawn(2)
    ),
    "what a call ended as": lambda: _ended(program.fails.spawn(1)),
    "an async function": lambda: program.later.remote(1),
    "a map": lambda: list(program.add.map(range(5))),
    "a starmap": lambda: list(program.add.starmap([(1, 2), (3, 4)])),
    "a map of an endless iterator": lambda: _first(program.add.map(iter(range(200)))),
    "a map in any order": lambda: sorted(program.add.map(range(5), order_outputs=False)),
    "a map whose failures are returned": lambda: [
        repr(each) for each in program.odd_fails.map(range(4), return_exceptions=True)
    ],
    "a map that fails": lambda: list(program.odd_fails.map(range(4))),
    "a spawned map": lambda: list(program.add.spawn_map(range(3)).iter()),
    "a failure": lambda: program.fails.remote(7),
    "a failure of a plain argument error": lambda: program.add.remote(1, z=2),
    "a function that fails each time": lambda: program.twice.remote(),
    "an argument that cannot be pickled": lambda: program.add.remote(threading.Lock()),
    "a result that cannot be pickled": lambda: program.unpicklable.remote(),
    "a generator as a result": lambda: program.half_done.remote(),
    "a generator": lambda: list(program.lines.remote_gen(5)),
    "a generator that fails": lambda: _all(program.lines.remote_gen(3)),
    "an async generator": lambda: list(program.async_lines.remote_gen(3)),
    "a generator called as a function": lambda: program.lines.remote(3),
    "a call in a call": lambda: program.down.remote(3),
    "a handle as an argument": lambda: program.through.remote(program.add, 5),
    "where the code thinks that it runs": lambda: program.ids.remote(),
    "a batched function": lambda: list(program.doubled.map(range(6))),
    "a class with parameters": lambda: program.Greeter(language="fr").greet.remote("Ada"),
    "a method that calls another": lambda: program.Greeter(language="en").around.remote("Ada"),
    "a class with a missing parameter": lambda: program.Greeter().greet.remote("Ada"),
    "a class that does not start": lambda: program.Broken().run.remote(),
    "options of its own": lambda: program.add.with_options(timeout=5).remote(2),
    "asyncio": lambda: asyncio.run(_together()),
}


async def _together() -> list[Any]:
    first = await asyncio.gather(*(program.later.remote.aio(x) for x in range(3)))
    mapped = [x async for x in program.add.map.aio(range(3))]
    items = [x async for x in program.lines.remote_gen.aio(2)]
    return [*first, *mapped, *items]


def _ended(call: Any) -> Any:
    with pytest.raises(OwnError):
        call.get()
    return call.status().name, call.done(), call.num_inputs()


def _first(results: Any) -> Any:
    return next(iter(results))


def _all(items: Iterator[Any]) -> Any:
    found: list[Any] = []
    with pytest.raises(OwnError, match="after three"):
        found.extend(items)
    return found


def seen(case: Callable[[], Any]) -> tuple[str, str]:
    """The value, or the type of the error and its first line without ids."""
    try:
        return "value", repr(case())
    except (Error, TypeError, ValueError, OwnError) as error:
        return type(error).__qualname__, str(error).partition("\n")[0].partition(", input")[0]


@pytest.fixture(scope="module")
def remotely(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What the cases say on a stack, all at once as most of their time is waiting."""
    from qmodal.runner.run import ensure_server

    with (
        ensure_server(own_home(tmp_path_factory)),
        program.app.run(),
        ThreadPoolExecutor(12) as threads,
    ):
        return dict(zip(CASES, threads.map(seen, CASES.values()), strict=True))


@pytest.mark.filterwarnings("ignore::qmodal.exception.AsyncUsageWarning")
def test_values_and_errors_are_those_of_containers(remotely: dict[str, tuple[str, str]]) -> None:
    with eager():
        here = {name: seen(case) for name, case in CASES.items()}
    assert here == remotely


@pytest.fixture
def _eager() -> Iterator[None]:
    with eager():
        yield


@pytest.mark.usefixtures("_eager")
class TestEager:
    """What is seen in eager mode only."""

    def test_arguments_and_results_are_copies(self) -> None:
        values: list[Any] = [1]
        assert program.appended.remote(values) == [1, "here"]
        assert values == [1]

    def test_errors_name_the_call_and_the_attempt(self) -> None:
        with pytest.raises(OwnError) as caught:
            program.twice.remote()
        notes = "".join(caught.value.__notes__)
        assert "twice, attempt 2 of 2, input 0 of fc-" in notes
        assert "program.py" in notes

    def test_retries_do_not_wait(self, tmp_path: Path) -> None:
        counter = tmp_path / COUNTER
        counter.write_text("0")
        assert program.third_time.remote(str(counter)) == 3

    def test_an_instance_stays_for_its_parameters(self) -> None:
        french = program.Greeter(language="fr", loud=True).greet
        assert [french.remote("Ada") for _ in range(2)] == ["BONJOUR ADA 1", "BONJOUR ADA 2"]
        assert program.Greeter(language="en").greet.remote("Ada") == "hello Ada 1"

    def test_a_generator_goes_on_only_as_it_is_read(self) -> None:
        items = program.lines.remote_gen(10**12)
        assert [next(items), next(items)] == [0, 1]
        items.close()

    def test_a_name_leads_to_an_app_of_this_process(self) -> None:
        named = qmodal.Function.from_name("eager-or-not", "add")
        assert named.remote(1) == 11
        greeter = qmodal.Cls.from_name("eager-or-not", "Greeter")
        assert greeter(language="en").greet.remote("Bo") == "hello Bo 1"
        with pytest.raises(NotFoundError, match="import the module that defines it"):
            qmodal.Function.from_name("elsewhere", "add").remote(1)

    def test_running_the_app_changes_nothing(self) -> None:
        with program.app.run(), program.app.run():
            assert program.add.remote(1) == 11

    def test_a_call_from_a_coroutine_warns_and_works(self) -> None:
        async def calls() -> Any:
            with pytest.warns(qmodal.exception.AsyncUsageWarning):
                return program.later.remote(1)

        assert asyncio.run(calls()) == 2

    def test_variables_of_a_context_do_not_reach_the_function(self) -> None:
        program.VARIABLE.set("caller's")
        assert program.variable.remote() == "none"

    def test_what_is_defined_again_counts(self) -> None:
        app = qmodal.App("again")

        def defined(value: int) -> Any:
            @app.function(name="f", serialized=True)
            def f() -> int:
                return value

            return f

        assert [defined(1).remote(), defined(2).remote()] == [1, 2]

    @pytest.mark.parametrize(
        "act",
        [
            lambda: program.app.deploy(name="x"),
            lambda: qmodal.Dict.from_name("d", create_if_missing=True).get("k"),
            lambda: program.add.get_current_stats(),
        ],
        ids=["deploy", "a Dict", "stats"],
    )
    def test_what_needs_a_server_says_so(self, act: Callable[[], Any]) -> None:
        with pytest.raises(UnimplementedError, match="qmodal_stack"):
            act()

    def test_a_web_function_says_so(self) -> None:
        app = qmodal.App("web-here")

        @app.cls(serialized=True)
        class Both:
            @qmodal.fastapi_endpoint()
            def page(self) -> str:
                return "page"

            @qmodal.method()
            def plain(self) -> str:
                return "plain"

        with pytest.raises(UnimplementedError, match="serves no web functions"):
            Both().plain.remote()


def test_a_decorated_test_is_eager_and_afterwards_nothing_is() -> None:
    before = clients.known()

    @eager()
    def made() -> Any:
        return program.add.remote(1)

    assert made() == 11
    assert clients.known() is before
    with pytest.raises(ExecutionError, match="not running"):
        program.add.remote(1)


def test_exit_hooks_run_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with eager():
        program.Greeter(language="fr").greet.remote("Ada")
        assert "au revoir" not in capsys.readouterr().out
    assert "au revoir" in capsys.readouterr().out

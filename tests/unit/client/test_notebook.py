"""What is shown of errors in cells, and which code of a notebook may block its loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, TracebackType
from typing import Any

import pytest

from qmodal.client import cell_errors, notebook
from qmodal.client.cell_errors import without_ours
from qmodal.exception import InvalidError
from qmodal.functions.function import Function
from qmodal.functions.map.inputs import InputReader

RUNNER = """
async def run(code):
    return code() if not is_async else await code()
"""


def runner(*, is_async: bool) -> Any:
    """Something that runs cells as IPython does: a coroutine in a module of its."""
    found: dict[str, Any] = {"__name__": "IPython.core.interactiveshell", "is_async": is_async}
    exec(RUNNER, found)
    return found["run"]


@pytest.fixture
def ipython(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in the place of IPython, without a shell."""
    made = ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", made)
    return made


@pytest.mark.usefixtures("ipython")
def test_a_cell_and_what_it_calls_may_block() -> None:
    async def awaiting() -> bool:
        return notebook.is_cell()

    async def careless() -> bool:
        return await awaiting()

    assert asyncio.run(runner(is_async=False)(lambda: notebook.is_cell()))
    assert asyncio.run(runner(is_async=True)(awaiting))
    assert not asyncio.run(runner(is_async=True)(careless))
    assert not asyncio.run(awaiting())
    assert not notebook.is_cell()


def test_without_ipython_there_are_no_cells() -> None:
    assert not asyncio.run(runner(is_async=False)(lambda: "IPython" in sys.modules))
    assert not asyncio.run(runner(is_async=False)(notebook.is_cell))
    assert notebook.shell() is None
    assert notebook.source_of("cell.py") is None


def names(trace: TracebackType | None) -> list[str]:
    found = []
    while trace is not None:
        found.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return found


def raised(call: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as caught:
        call()
    return caught.value


def test_frames_of_ours_are_left_out_and_those_of_the_user_below_them_are_not() -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise KeyError

    def kept(call: Callable[[], Any]) -> list[str]:
        trace = raised(call).__traceback__
        assert trace is not None
        assert len(names(without_ours(trace))) < len(names(trace))
        return names(without_ours(trace))

    assert kept(lambda: Function.from_name("app", "a.b")) == ["raised", "<lambda>"]
    take = InputReader((inputs(),)).taker(0)
    assert kept(lambda: take(3)) == ["raised", "<lambda>", "inputs"]


def test_a_shell_shows_errors_without_our_frames_and_keeps_them(
    ipython: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[str]] = []

    class Formatter:
        def structured_traceback(self, kind: Any, error: Any, trace: Any = None) -> None:
            shown.append(names(trace) + names(getattr(error.__cause__, "__traceback__", None)))

    class Shell:
        InteractiveTB = Formatter()

    ipython.get_ipython = Shell  # type: ignore[attr-defined]
    cell_errors.hide_frames()
    cell_errors.hide_frames()  # once is enough

    def both() -> None:
        try:
            Function.from_name("app", "a.b")
        except InvalidError as error:
            raise RuntimeError from error

    error = raised(both)
    before = names(error.__cause__.__traceback__) if error.__cause__ else []
    show = Shell.InteractiveTB.structured_traceback
    show(type(error), error, error.__traceback__)
    assert shown[-1] == ["raised", "both", "both"]
    assert error.__cause__ is not None
    assert names(error.__cause__.__traceback__) == before == ["both", "from_name"]
    monkeypatch.setenv("QMODAL_TRACEBACK", "1")
    show(type(error), error, error.__traceback__)
    assert shown[-1] == ["raised", "both", "both", "from_name"]

"""What is shown of errors in cells, and which code of a notebook may block its loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace, TracebackType
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


def entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def names(trace: TracebackType | None) -> list[str]:
    return [each.tb_frame.f_code.co_name for each in entries(trace)]


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


class Formatter:
    """What a shell formats tracebacks with; it notes the frames that it is given, and whether a context is left out."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.is_suppressed = False

    def structured_traceback(self, kind: Any, error: Any, trace: Any = None) -> None:
        self.frames = names(trace) + names(getattr(error.__cause__, "__traceback__", None))
        self.is_suppressed = error.__suppress_context__


@pytest.fixture
def formatter(ipython: ModuleType) -> Formatter:
    """That of a shell which hides our frames."""
    made = Formatter()
    ipython.get_ipython = lambda: SimpleNamespace(InteractiveTB=made)  # type: ignore[attr-defined]
    cell_errors.hide_frames()
    cell_errors.hide_frames()  # once is enough
    return made


def both() -> None:
    try:
        Function.from_name("app", "a.b")
    except InvalidError as error:
        raise RuntimeError from error


def test_a_shell_shows_errors_without_our_frames_and_keeps_them(
    formatter: Formatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = raised(both)
    formatter.structured_traceback(RuntimeError, error, error.__traceback__)
    assert formatter.frames == ["raised", "both", "both"]
    assert error.__cause__ is not None
    assert names(error.__cause__.__traceback__) == ["both", "from_name"]
    monkeypatch.setenv("QMODAL_TRACEBACK", "1")
    formatter.structured_traceback(RuntimeError, error, error.__traceback__)
    assert formatter.frames == ["raised", "both", "both", "from_name"]


def test_what_we_handled_when_we_were_interrupted_is_not_shown(formatter: Formatter) -> None:
    trace = raised(lambda: Function.from_name("app", "a.b")).__traceback__
    *_, ours = entries(trace)
    interrupt = KeyboardInterrupt()
    interrupt.__context__ = BlockingIOError().with_traceback(ours)
    formatter.structured_traceback(KeyboardInterrupt, interrupt, trace)
    assert formatter.frames == ["raised", "<lambda>"]
    assert formatter.is_suppressed
    assert not interrupt.__suppress_context__

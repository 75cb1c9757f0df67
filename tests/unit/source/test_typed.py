"""Code of cells as a pickle: tracebacks find its lines, and nothing else of the cell goes along."""

from __future__ import annotations

import linecache
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from qmodal.source import typed

NAME, LABEL = "/tmp/ipykernel_1/2.py", "Cell In[7]"
CELL = '''import functools
KEY = "of the cell"

def remembered(key):
    return lambda f: f

@remembered("of the decorator")
def outer(x):
    """The first."""
    return inner(
        x
    )

def inner(x): return [1 / each for each in (x,)]
'''


@pytest.fixture
def outer() -> Iterator[Any]:
    """A function that calls another one of its cell."""
    found: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, NAME, "exec"), found)
    yield found["outer"]
    linecache.cache.pop(LABEL, None)


def find(name: str) -> tuple[str, list[str]] | None:
    return (LABEL, CELL.splitlines(keepends=True)) if name == NAME else None


def test_a_traceback_names_the_cell_and_shows_its_lines(outer: Any) -> None:
    loaded = pickle.loads(typed.dump(outer, find))
    with pytest.raises(ZeroDivisionError) as caught:
        loaded(0)
    shown = "".join(traceback.format_exception(caught.value))
    assert f'File "{LABEL}", line 10, in outer\n    return inner(' in shown
    assert f'File "{LABEL}", line 14, in inner\n    def inner(x): return [1 / each' in shown


def test_nothing_else_of_the_cell_is_in_the_pickle(outer: Any) -> None:
    packed = typed.dump(outer, find)
    assert b"return inner(" in packed
    assert b"of the cell" not in packed
    assert b"of the decorator" not in packed
    assert NAME.encode() not in packed


def test_the_same_code_is_the_same_pickle(outer: Any) -> None:
    again: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, NAME, "exec"), again)
    assert typed.dump(outer, find) == typed.dump(again["outer"], find)


def test_other_code_is_pickled_as_it_is(outer: Any) -> None:
    loaded = pickle.loads(typed.dump(outer, lambda _: None))
    assert loaded.__code__.co_filename == NAME
    assert loaded(1) == [1.0]

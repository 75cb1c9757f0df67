"""Code that was typed into cells, as a pickle: tracebacks of containers name its cell and show its lines.

No file has these lines. Only those of the functions that are pickled go along, and not those of their decorators, where
a secret may be written down; nor anything else of their cells.
"""

from __future__ import annotations

import io
import linecache
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

# The label of a cell and its lines, by the file name of its code; None for other code.
FindCell = Callable[[str], tuple[str, list[str]] | None]
# For each label, lines by their numbers.
Lines = dict[str, dict[int, str]]


def dump(code: Any, find: FindCell) -> bytes:
    """The pickle of a function or class, with the functions and globals that it uses."""
    import cloudpickle

    lines: Lines = {}

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Names the code of cells as they are called, and notes its lines."""

        def reducer_override(self, obj: Any) -> Any:
            found = find(obj.co_filename) if type(obj) is CodeType else None
            if found is None:
                return super().reducer_override(obj)
            label, source = found
            known = lines.setdefault(label, {})
            known.update((n, source[n - 1]) for n in _lines_of(obj) if n <= len(source))
            return self.dispatch_table[CodeType](_renamed(obj, label))

    with io.BytesIO() as file:
        # The lines are filled in while the code is pickled, which is done first.
        Pickler(file).dump(_Typed(code, lines))
        return file.getvalue()


class _Typed:
    """Is loaded as the code alone."""

    def __init__(self, code: Any, lines: Lines) -> None:
        self._code = code
        self._lines = lines

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (self._code, self._lines)


def restore(code: Any, lines: Lines) -> Any:
    """The code itself; from now on tracebacks find its lines."""
    for label, known in lines.items():
        text = [known.get(number, "\n") for number in range(1, max(known, default=0) + 1)]
        # Without a time it is left alone by whoever looks whether files have changed.
        linecache.cache[label] = (sum(map(len, text)), None, text, label)
    return code


def _renamed(code: CodeType, label: str) -> CodeType:
    constants = tuple(
        _renamed(each, label) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    return code.replace(co_filename=label, co_consts=constants)


def _lines_of(code: CodeType) -> Iterator[int]:
    """The numbers of its lines; not the first of a function that has others, which may be its decorator's."""
    numbers: set[int] = set()
    for begin, end, *_ in code.co_positions():
        if begin is not None and end is not None:
            numbers.update(range(begin, end + 1))
    if len(numbers) > 1 and not code.co_name.startswith("<"):
        numbers.discard(code.co_firstlineno)
    yield from numbers
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _lines_of(each)

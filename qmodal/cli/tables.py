"""Lists on standard output: a table, no wider than the terminal, or JSON."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from qmodal.cli.echo import echo
from qmodal.telemetry.printable import printable

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Any], str]]


# An id is cut to as much as tells it from the others of its column, at least so much; commands take the beginning of one.
_ID = re.compile(r"(?!wk-)[a-z]{2}-[0-9A-Za-z]{12,}(-\d+)?|[0-9a-f]{32}")
SHORTEST_ID = 9
SHORTEST_TEXT = 12
GAP = 2
# Columns that are left out last.
KEPT = frozenset({"NAME", "FUNCTION", "STATE", "AGE", "FAILED"})


def show(rows: Sequence[Row], columns: Columns, *, as_json: bool) -> None:
    """Print the rows; `columns` says which fields in which order, and how each is written.

    A terminal gets a table that is no wider: ids and long texts are cut, and columns left out, which is said on stderr. A
    pipe gets all of it.
    """
    if as_json:
        echo(json.dumps([{name: row[name] for name in columns} for row in rows], indent=2))
        return
    cells = [[printable(shown(row[name])) for name, shown in columns.items()] for row in rows]
    table = [[name.replace("_", " ").upper() for name in columns], *cells]
    left_out: list[str] = []
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        table, left_out = fitted(table, shutil.get_terminal_size().columns)
    heading, *lines = aligned(table)
    click.echo(click.style(printable(heading), bold=True) if is_terminal else heading)
    for line in lines:
        echo(line)
    if left_out:
        more = ", ".join(each.lower() for each in left_out)
        click.echo(f"More in a wider terminal, or with --json: {more}", err=True)


def fitted(table: Sequence[Sequence[str]], width: int) -> tuple[list[list[str]], list[str]]:
    """The table, whose first row has the headings, within so many characters; and the headings of what is left out.

    Ids are cut first, then the longest texts, and then columns go, from the right.
    """
    columns = [list(column) for column in zip(*table, strict=True)]
    if _total(columns) > width:
        columns = [_cut_ids(column) for column in columns]
    while _total(columns) > width and (longest := _longest_text(columns)) is not None:
        over = _total(columns) - width
        size = max(SHORTEST_TEXT, len(columns[longest][0]), _size(columns[longest]) - over)
        columns[longest] = [_cut(cell, size) for cell in columns[longest]]
    left_out: list[str] = []
    while _total(columns) > width and len(columns) > 1:
        usual = [n for n, column in enumerate(columns) if n and column[0] not in KEPT]
        left_out.append(columns.pop(usual[-1] if usual else -1)[0])
    in_order = [heading for heading in table[0] if heading in left_out]
    return [list(row) for row in zip(*columns, strict=True)], in_order


def _total(columns: Sequence[Sequence[str]]) -> int:
    return sum(map(_size, columns)) + GAP * (len(columns) - 1)


def _size(column: Sequence[str]) -> int:
    return max(map(len, column))


def _cut(cell: str, size: int) -> str:
    return cell if len(cell) <= size else f"{cell[: size - 1]}…"


def _cut_ids(column: list[str]) -> list[str]:
    heading, *cells = column
    ids = {cell for cell in cells if _ID.fullmatch(cell)}
    if not ids:
        return column
    longest = max(map(len, ids))
    size = next(
        n for n in range(SHORTEST_ID, longest + 1) if len({each[:n] for each in ids}) == len(ids)
    )
    return [heading, *(cell[:size] if cell in ids else cell for cell in cells)]


def _longest_text(columns: Sequence[Sequence[str]]) -> int | None:
    """The column that takes most and can be cut."""
    sizes = {
        n: _size(column)
        for n, column in enumerate(columns)
        if _size(column) > max(SHORTEST_TEXT, len(column[0]))
        and not any(map(_ID.fullmatch, column))
    }
    return max(sizes, key=lambda n: sizes[n]) if sizes else None


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in plain text, its columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def age(seconds: float) -> str:
    """How long ago, in the largest unit that fits.

    >>> age(150)
    '2 min'
    """
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"

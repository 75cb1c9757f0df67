"""Lists on standard output: a table on a terminal, aligned text in a pipe, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qmodal.cli.echo import echo
from qmodal.telemetry.printable import printable

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Any], str]]


def show(rows: Sequence[Row], columns: Columns, *, as_json: bool) -> None:
    """Print the rows; `columns` says which fields in which order, and how each is written."""
    if as_json:
        echo(json.dumps([{name: row[name] for name in columns} for row in rows], indent=2))
        return
    cells = [[printable(shown(row[name])) for name, shown in columns.items()] for row in rows]
    headings = [name.replace("_", " ") for name in columns]
    if sys.stdout.isatty():
        _show_table(headings, cells)
    else:
        for line in aligned([[heading.upper() for heading in headings], *cells]):
            echo(line)


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


def _show_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in headings:
        # An id that is cut cannot be pasted anywhere.
        table.add_column(heading, overflow="fold")
    for row in cells:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    Console().print(table)

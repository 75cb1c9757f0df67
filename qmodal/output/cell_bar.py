"""A progress bar below the cell of a notebook: one output of it, which is replaced as the map goes on.

It needs no widgets, and it is also there where a notebook is only read: an element `progress` beside a text, and the text
alone where there is no HTML.
"""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import Any

from qmodal.output.pace import Figures


class CellLine:
    """The bar of one map."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, figures: Figures) -> None:
        """Show these in place of earlier ones."""
        shown = {"text/plain": f"{figures.name} {figures.text}", "text/html": html_of(figures)}
        if self._handle is None:
            # Cells are run by IPython, so it is there.
            display = import_module("IPython.display").display
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def html_of(figures: Figures) -> str:
    """The bar and its text; a bar without a value moves to and fro."""
    value = "" if figures.total is None else f' value="{figures.done}" max="{figures.total or 1}"'
    if figures.total is None and figures.is_over:
        value = ' value="1" max="1"'
    return (
        f'<div style="font-family: monospace; white-space: pre"><b>{escape(figures.name)}</b> '
        f'<progress{value} style="width: 16em; vertical-align: middle"></progress> '
        f"{escape(figures.text)}</div>"
    )

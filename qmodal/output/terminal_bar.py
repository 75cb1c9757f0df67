"""Progress bars on a terminal: one display of `rich`, which the bars of all maps that run share."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from qmodal.output.pace import Figures


class TerminalLine:
    """The bar of one map; the display ends with the last of them."""

    def __init__(self) -> None:
        self._task: TaskID | None = None

    def draw(self, figures: Figures) -> None:
        """Show these; those that are over, for the last time."""
        with _display.lock:
            progress = _display.used()
            if self._task is None:
                self._task = progress.add_task(figures.name, text="")
                _display.users += 1
            progress.update(
                self._task, total=figures.total, completed=figures.done, text=figures.text
            )
            if figures.is_over:
                progress.stop_task(self._task)
                _display.users -= 1
                _display.end_unused()


class _Display:
    """The one display that a terminal can have; `lock` is held by whoever uses it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self._progress: Progress | None = None

    def used(self) -> Progress:
        """The display, from now on shown."""
        if self._progress is None:
            self._progress = _made()
            self._progress.start()
        return self._progress

    def end_unused(self) -> None:
        """Leave the bars as they are, if none of them is of a map that runs."""
        if self._progress is not None and not self.users:
            self._progress.refresh()
            self._progress.stop()
            self._progress = None


_display = _Display()


def _made() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=20)),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[text]}"),
    )
    # What the program prints goes above the bar; into a file, it must stay what it is.
    redirects = sys.stdout is not None and sys.stdout.isatty()
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=redirects)

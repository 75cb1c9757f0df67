"""Progress bars, one for each map that runs: on a terminal, or below the cell of a notebook."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from qmodal.client.notebook import is_notebook
from qmodal.exception import Error
from qmodal.output import screen as output
from qmodal.output.pace import Figures, Pace
from qmodal.transport.defects import survive

if TYPE_CHECKING:
    from qmodal.client.client import Client

# A map that is over before that has no bar.
REFRESH_SECONDS = 0.25
# Refreshes of the bar that share one query to the server.
REFRESHES_PER_QUERY = 4


class MapNumbers(Protocol):
    """The numbers of a map that its bar shows."""

    @property
    def submitted(self) -> int:
        """Inputs that were accepted."""
        ...

    @property
    def settled(self) -> int:
        """Inputs that have an outcome."""
        ...

    @property
    def failed(self) -> int:
        """Those of them that failed."""
        ...

    @property
    def is_fed(self) -> bool:
        """Whether no more inputs come."""
        ...

    @property
    def target(self) -> Any:
        """Its function: `name`, `pool` and `options`."""
        ...


class Sized(Protocol):
    """The inputs of a map."""

    @property
    def total(self) -> int | None:
        """How many there will be; None if nobody knows."""
        ...


class Line(Protocol):
    """Where one bar is drawn."""

    def draw(self, figures: Figures) -> None:
        """Show these in place of earlier ones; those that are over stay as they are."""
        ...


@contextmanager
def shown(client: Client, call: MapNumbers, inputs: Sized) -> Iterator[None]:
    """Show a bar during the block, if output is enabled and somebody sees it."""
    line = _line() if output.shows_progress() else None
    if line is None:
        yield
        return
    bar = Bar(client, call, inputs.total, line)
    bar.start()
    try:
        yield
    finally:
        bar.stop()


def _line() -> Line | None:
    if is_notebook():
        from qmodal.output.cell_bar import CellLine

        return CellLine()
    if sys.stderr is not None and sys.stderr.isatty():
        from qmodal.output.terminal_bar import TerminalLine

        return TerminalLine()
    return None


class Bar:
    """One map's line; a thread reads the map's numbers, which costs the map nothing."""

    def __init__(self, client: Client, call: MapNumbers, total: int | None, line: Line) -> None:
        self._client = client
        self._call = call
        self._total = total
        self._line = line
        self._pace = Pace()
        self._began = time.monotonic()
        self._drawing = threading.Lock()
        self._is_drawn = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to show it."""
        self._pace.at(self._began, self._call.settled)
        self._thread.start()

    def stop(self) -> None:
        """Show it a last time; nothing is drawn afterwards, whatever the thread waits for."""
        self._ended.set()
        with self._drawing, survive("a progress bar"):
            if self._is_drawn:
                self._line.draw(self._figures(0, is_over=True))

    def _follow(self) -> None:
        refreshes, running = 0, 0
        with survive("a progress bar"):
            while not self._ended.wait(REFRESH_SECONDS):
                if refreshes % REFRESHES_PER_QUERY == 0:
                    running = self._running()
                refreshes += 1
                with self._drawing:
                    if not self._ended.is_set():
                        self._line.draw(self._figures(running))
                        self._is_drawn = True

    def _figures(self, running: int, *, is_over: bool = False) -> Figures:
        call, now = self._call, time.monotonic()
        done, took = call.settled, now - self._began
        return Figures(
            name=call.target.name,
            done=done,
            total=call.submitted if call.is_fed else self._total,
            failed=call.failed,
            running=running,
            rate=done / max(took, 0.001) if is_over else self._pace.at(now, done),
            took=took,
            is_over=is_over,
        )

    def _running(self) -> int:
        """How many inputs run in the pool: those of other calls may be among them."""
        call = self._call
        try:
            op = self._client.observing.observe([call.target.pool])
            (observation,) = self._client.run(op)
        except Error:
            return 0
        waiting = call.submitted - call.settled
        if observation is None:
            return 0
        return min(waiting, observation.running(call.target.options.capacity))

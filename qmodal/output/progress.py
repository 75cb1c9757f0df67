"""A bar on the terminal for each map that runs: done, running, failed, and how fast it goes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from qmodal.exception import Error
from qmodal.output import screen as output

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from qmodal.client.client import Client

LOOK_SECONDS = 0.25
LEAVE_SECONDS = 1.0
# Looks of the bar's own that one question to the server is for.
LOOKS = 4


class MapNumbers(Protocol):
    """How far a map is."""

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


@contextmanager
def shown(client: Client, fanout: MapNumbers) -> Iterator[None]:
    """Show a bar during the block, if output is enabled and standard error is a terminal."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not (output.shows_progress() and is_terminal):
        yield
        return
    bar = Bar(client, fanout)
    bar.start()
    try:
        yield
    finally:
        bar.stop()


def sentence(fanout: MapNumbers, running: int, rate: float) -> str:
    """What stands beside the bar."""
    failed = f", {fanout.failed} failed" if fanout.failed else ""
    return f"{fanout.settled} done, {running} running{failed}, {rate:.0f}/s"


class Bar:
    """One map's line; a thread looks at the map's numbers, which costs the map nothing."""

    def __init__(self, client: Client, fanout: MapNumbers) -> None:
        self._client = client
        self._fanout = fanout
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to show it."""
        self._thread.start()

    def stop(self) -> None:
        """Show it a last time."""
        self._ended.set()
        self._thread.join(LEAVE_SECONDS)  # it may be asking a server that is away

    def _follow(self) -> None:
        with _Screen() as progress:
            line = progress.add_task(self._fanout.target.name, total=None, said="")
            began, looks, running = progress.get_time(), 0, 0
            while not self._ended.wait(LOOK_SECONDS):
                if looks % LOOKS == 0:
                    running = self._running()
                looks += 1
                self._show(progress, line, running, progress.get_time() - began)
            self._show(progress, line, 0, progress.get_time() - began)

    def _show(self, progress: Progress, line: TaskID, running: int, took: float) -> None:
        fanout = self._fanout
        total = fanout.submitted if fanout.is_fed else None
        said = sentence(fanout, running, fanout.settled / max(took, 0.001))
        progress.update(line, total=total, completed=fanout.settled, said=said)

    def _running(self) -> int:
        """How many inputs run in the pool: those of other calls may be among them."""
        fanout = self._fanout
        try:
            op = self._client.observing.observe([fanout.target.pool])
            (seen,) = self._client.run(op)
        except Error:
            return 0
        waiting = fanout.submitted - fanout.settled
        return 0 if seen is None else min(waiting, seen.running(fanout.target.options.slots))


class _Screen:
    """The one rich display that a terminal can have, shared by all maps that run."""

    _lock = threading.Lock()
    _users = 0
    _progress: Progress | None = None

    def __enter__(self) -> Progress:
        kind = type(self)
        with kind._lock:
            kind._users += 1
            if kind._progress is None:
                kind._progress = _made()
                kind._progress.start()
            return kind._progress

    def __exit__(self, *_failure: object) -> None:
        kind = type(self)
        with kind._lock:
            kind._users -= 1
            if kind._users == 0 and kind._progress is not None:
                kind._progress.stop()
                kind._progress = None


def _made() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
    )
    # What the program prints goes above the bar; into a file, it must stay what it is.
    redirects = sys.stdout is not None and sys.stdout.isatty()
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=redirects)

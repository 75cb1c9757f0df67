"""Progress bars on the terminal, one for each map that runs: done, running, failed, inputs a second."""

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

REFRESH_SECONDS = 0.25
JOIN_SECONDS = 1.0
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


@contextmanager
def shown(client: Client, call: MapNumbers) -> Iterator[None]:
    """Show a bar during the block, if output is enabled and standard error is a terminal."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not (output.shows_progress() and is_terminal):
        yield
        return
    bar = Bar(client, call)
    bar.start()
    try:
        yield
    finally:
        bar.stop()


def progress_text(call: MapNumbers, running: int, rate: float) -> str:
    """The text beside the bar; `rate` in inputs a second."""
    failed = f", {call.failed} failed" if call.failed else ""
    return f"{call.settled} done, {running} running{failed}, {rate:.0f}/s"


class Bar:
    """One map's line; a thread reads the map's numbers, which costs the map nothing."""

    def __init__(self, client: Client, call: MapNumbers) -> None:
        self._client = client
        self._call = call
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to show it."""
        self._thread.start()

    def stop(self) -> None:
        """Show it a last time."""
        self._ended.set()
        self._thread.join(JOIN_SECONDS)  # it may be asking a server that is away

    def _follow(self) -> None:
        with _SharedDisplay() as progress:
            task = progress.add_task(self._call.target.name, total=None, text="")
            began, refreshes, running = progress.get_time(), 0, 0
            while not self._ended.wait(REFRESH_SECONDS):
                if refreshes % REFRESHES_PER_QUERY == 0:
                    running = self._running()
                refreshes += 1
                self._show(progress, task, running, progress.get_time() - began)
            self._show(progress, task, 0, progress.get_time() - began)

    def _show(self, progress: Progress, task: TaskID, running: int, took: float) -> None:
        call = self._call
        total = call.submitted if call.is_fed else None
        text = progress_text(call, running, call.settled / max(took, 0.001))
        progress.update(task, total=total, completed=call.settled, text=text)

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


class _SharedDisplay:
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
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    # What the program prints goes above the bar; into a file, it must stay what it is.
    redirects = sys.stdout is not None and sys.stdout.isatty()
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=redirects)

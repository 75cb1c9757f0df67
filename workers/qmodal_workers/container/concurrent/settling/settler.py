"""Writes what has ended, in a thread of its own: user code and claims go on meanwhile."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from qmodal.wire.remote_error import printed
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.process.own_output import flush, show
from qmodal_workers.container.process.signals import unsignalled
from qmodal_workers.container.settle.coalesce import Done
from qmodal_workers.container.settle.settlement import Settlement


@dataclass(slots=True)
class Settler:
    """Takes outcomes and other things to write, and does all that has gathered in one go.

    `on_settled` is called, by the thread, with the rows whose outcomes are written.
    """

    claims: ClaimConnection
    settlement: Settlement
    on_settled: Callable[[list[int]], None]
    _queue: queue.SimpleQueue[tuple[list[Done], list[int]] | Callable[[], None] | None] = field(
        default_factory=queue.SimpleQueue
    )
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Write from now on."""
        self._thread = threading.Thread(target=self._guarded, name="settle", daemon=True)
        with unsignalled():
            self._thread.start()

    def put(self, done: list[Done], rows: list[int]) -> None:
        """These have ended; their rows are free once that is written."""
        self._queue.put((done, rows))

    def do(self, write: Callable[[], None]) -> None:
        """Something else to write; in order with the rest."""
        self._queue.put(write)

    def finish(self) -> None:
        """Return when everything is written."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _guarded(self) -> None:
        try:
            while self._write():
                pass
        except BaseException as error:
            # What has ended can be written by nobody: others run it, and this container serves no more.
            with suppress(BaseException):
                show(printed(error))
            os._exit(1)

    def _write(self) -> bool:
        """Write what is there; False at the end."""
        goes_on, rows = True, []
        for each in self._taken():
            if each is None:
                goes_on = False
            elif callable(each):
                each()
            else:
                done, freed = each
                for one in done:
                    self.settlement.input(one)
                rows += freed
        flush()
        self.claims.settle(self.settlement.take())
        if rows:
            self.on_settled(rows)
        return goes_on

    def _taken(self) -> list[tuple[list[Done], list[int]] | Callable[[], None] | None]:
        taken = [self._queue.get()]
        with suppress(queue.Empty):
            while True:
                taken.append(self._queue.get_nowait())
        return taken

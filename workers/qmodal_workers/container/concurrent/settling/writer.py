"""Has outcomes written: by the loop itself if that needs no wait, else by a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from qmodal.store.entries import Claimed, Settled
from qmodal_workers.container.concurrent.settling.settle_connection import SettleConnection
from qmodal_workers.container.concurrent.settling.settler import Settler
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.process.own_output import flush
from qmodal_workers.container.settle.coalesce import Done
from qmodal_workers.container.settle.settlement import Settlement


class LoopSettles(Protocol):
    """Settles by the loop, with a claim or beside one (`LoopClaims`)."""

    def settle(self, settled: list[Settled], rows: list[int]) -> bool:
        """Have these written; False if others have to do it."""

    def ask(self) -> None:
        """Claim, if there is room now."""


class Writer:
    """Writes what became of inputs; by the thread of the loop, if nothing else is said.

    `on_written` is called, by any thread, with the rows of what is written. `connection` is the loop's own
    for outcomes, and `by_loop` is to be set before the first one.
    """

    by_loop: LoopSettles

    def __init__(
        self,
        claims: ClaimConnection,
        settlement: Settlement,
        on_written: Callable[[list[int]], None],
    ) -> None:
        self._claims = claims
        self._settlement = settlement
        self._on_written = on_written
        self._settler = Settler(claims, settlement, on_written)
        self.connection = SettleConnection(
            settlement.client,
            settlement.pool,
            self._settled,
            self._have_settled,
            settlement.spans.settled,
        )

    def start(self) -> None:
        """Start the thread."""
        self._settler.start()

    def settle(self, done: list[Done], rows: list[int]) -> None:
        """These have ended; their rows are free once that is written."""
        ready = None if self.connection.is_lost else self._settlement.ready(done)
        if ready is None:
            self._settler.put(done, rows)
            return
        flush()
        if not self.by_loop.settle(ready, rows):
            self._have_settled(ready, rows)

    def release(self, claimed: list[Claimed], then: Callable[[], None]) -> None:
        """These are to run elsewhere; `then` is called by the settler's thread, once that is written."""
        self._settler.do(partial(self._release, claimed, then))

    def _release(self, claimed: list[Claimed], then: Callable[[], None]) -> None:
        self._settlement.release(claimed)
        then()

    def _settled(self, rows: list[int], is_ours: bool) -> None:
        """By the loop: the connection of its own has the answer to these."""
        self._on_written(rows)
        if not is_ours:
            self._claims.is_doubtful = True
        self.by_loop.ask()

    def _have_settled(self, settled: Sequence[Settled], rows: list[int]) -> None:
        """Settle these by the thread, as often as it takes."""
        self._settler.do(partial(self._settle_again, settled, rows))

    def _settle_again(self, settled: Sequence[Settled], rows: list[int]) -> None:
        self._claims.settle(settled)
        self._on_written(rows)

    def finish(self) -> None:
        """Return when everything is written; the loop runs no more."""
        self.connection.finish()
        unsettled, self._claims.unsettled = self._claims.unsettled, []
        self._have_settled(unsettled, [])
        self._settler.finish()

"""Claims by the container's loop itself: no thread has to be woken for an input, nor for its outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from qmodal.store.entries import Claimed, Settled
from qmodal.transport.connection import LOST
from qmodal_workers.container.concurrent.claimer import (
    LEFT_OVER_SECONDS,
    LOOK_SECONDS,
    Claimer,
)
from qmodal_workers.container.concurrent.settling.settle_connection import SettleConnection
from qmodal_workers.container.concurrent.settling.watched_socket import WatchedSocket
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.intake.intake import SURE_NS
from qmodal_workers.container.process import forked_children
from qmodal_workers.container.run.attempt import Attempt

# The claimer's thread looks every LOOK_SECONDS whether the loop comes to read what it has claimed; sooner
# if that is in doubt, later while no input runs: then only background tasks of user code can keep the loop.
DOUBT_SECONDS, IDLE_SECONDS = LOOK_SECONDS / 2, 0.5
# Rounds of the loop between the start of inputs and the next claim: what ends at its first step is
# settled with the same write, and user code that keeps the loop from its first step on keeps no claim.
ROUNDS = 2
# So many outcomes are settled with the same write as a claim, which comes behind them.
FEW_OUTCOMES = 4


@dataclass(slots=True, kw_only=True)
class LoopClaims:
    """The loop's turn at claiming, while all is as usual; the claimer's thread waits meanwhile (`serve`).

    The turn ends, and the thread goes on, when an input may have to be waited for (`admit` gives None),
    nothing came for seconds, the connection is lost, the lease is short, or user code keeps the loop
    from what was claimed: the thread gives that back, as other containers may be idle.

    Whose turn it is changes under `_lock`. `start` starts what was handed over; `give_back` has written
    that these run elsewhere; `on_settled`: what stood in these rows is written.
    """

    claimer: Claimer
    claims: ClaimConnection
    settles: SettleConnection
    loop: asyncio.AbstractEventLoop
    admit: Callable[[Claimed], Attempt | None]
    start: Callable[[], None]
    give_back: Callable[[list[Claimed]], None]
    on_settled: Callable[[list[int]], None]
    _lock: threading.Lock = field(default_factory=lambda: threading.Lock())
    _over: threading.Event = field(default_factory=threading.Event)
    _has_concluded: threading.Event = field(default_factory=threading.Event)
    _watched: WatchedSocket = field(default_factory=WatchedSocket)
    _is_turn: bool = False  # the loop's
    _is_unfit: bool = False  # the loop can watch no sockets
    _left: list[Claimed] | None = None  # at the end of a turn
    _rows: list[int] = field(default_factory=list)  # of the outcomes in the claim under way
    _most: int = 0  # that the claim under way may bring
    _piece: int = 0  # that the next one may, at least
    _is_last: bool = False  # the turn ends if nothing comes of that claim
    _steps: int = 0  # how often the loop has come here
    _is_due: bool = False  # a claim follows in a later round
    _has_paused: bool = False  # others had the time to take what is above the target
    _timers: set[Callable[[], None]] = field(default_factory=set)

    # By the claimer's thread:

    def is_possible(self) -> bool:
        """Whether the loop may have a turn; connects the connection for outcomes, if it is lost."""
        if self._is_unfit or not self.claims.is_pollable:
            return False
        return not self.settles.is_lost or self.settles.connect()

    def serve(self) -> list[Claimed] | None:
        """Let the loop claim until its turn ends; what is left to hand over, None if what is held is to be read."""
        self._over.clear()
        self._has_concluded.clear()
        with self._lock:
            self._is_turn = True
        try:
            self._soon(self._begin)
            self._watch_over_loop()
            left = self.claims.answer() if self.claims.is_asked else self._left
            rows, self._rows = self._rows, []
            if rows:
                self.on_settled(rows)
        finally:
            self._has_concluded.set()
        return left

    def _watch_over_loop(self) -> None:
        steps, is_doubtful = -1, False
        while True:
            pause = LOOK_SECONDS if self.claimer.room.taken else IDLE_SECONDS
            if self._over.wait(DOUBT_SECONDS if is_doubtful else pause):
                return
            is_kept = self._steps == steps and self._is_waited_for
            if (is_kept and is_doubtful) or not self._goes_on:
                with self._lock:
                    self._finish([])
                self.claimer.take_back()
                return
            steps, is_doubtful = self._steps, is_kept
            if not self.claims.is_asked and self.claimer.room.free:
                self._soon(self.ask)  # what could not be claimed ahead for a while can be again

    @property
    def _is_waited_for(self) -> bool:
        """Whether something is there for the loop to take."""
        return bool(self.claimer.handed) or (self.claims.is_asked and self.claims.is_answered(0))

    @property
    def _goes_on(self) -> bool:
        return self.claimer.may_claim and self.claimer.record.lease_left > SURE_NS

    def _soon(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop was closed
            self.loop.call_soon_threadsafe(call)

    # Under the lock:

    def _finish(self, left: list[Claimed] | None) -> bool:
        """End the turn with what is left to hand over; False if it has ended before."""
        if not self._is_turn:
            return False
        self._is_turn = False
        self._left = left
        self._over.set()
        self._soon(self._unwatch)
        return True

    def _break(self) -> None:
        """The connection is lost: the thread settles what is not answered, and reads what is held."""
        self.claims.drop()
        self._finish(None)

    # By the loop, or when it has ended:

    def finish(self) -> None:
        """The loop runs no more: return when no outcome is left in a claim that is under way."""
        with self._lock:
            self._finish([])
            is_left = bool(self._rows)
        if is_left:
            self._has_concluded.wait()

    def _unwatch(self) -> None:
        if not self._is_turn:  # else the next one has begun
            self._watched.end()

    def _begin(self) -> None:
        with self._lock:
            if not self._is_turn:
                return
            try:
                self._watched.watch(self.loop, self.claims.watchable(), self._read)
                self.settles.watch(self.loop)
            except (*LOST, RuntimeError, NotImplementedError):
                self._is_unfit = True
                self._finish([])
                return
        self._start()
        self.ask()

    def ask(self) -> None:
        """Claim, if there is room, and no other claim is under way or about to be."""
        if not self._is_due:
            self._push([], [])

    def settle(self, settled: list[Settled], rows: list[int]) -> bool:
        """Settle these, with the same write as a claim if one is possible; False if others have to settle them."""
        if forked_children.is_child():
            return True
        if len(settled) > FEW_OUTCOMES:
            self.ask()  # it would wait until all of them are settled
        elif self._push(settled, rows):
            return True
        return self.settles.settle(settled, rows)

    def _push(self, settled: list[Settled], rows: list[int]) -> bool:
        if forked_children.is_child():
            return False
        with self._lock:
            if not self._is_turn or self.claims.is_asked:
                return False
            plan = self.claimer.plan(self._piece)
            if plan is None or (plan.is_left_over and not self._has_paused):
                if plan is not None:
                    self._after(LEFT_OVER_SECONDS, self._pause_over)
                return False
            self._has_paused, self._is_last, self._rows = False, plan.is_last, rows
            self._most = plan.most
            try:
                self.claims.push(settled, count=plan.most, block=plan.block)
            except LOST:
                self._break()
            return True

    def _pause_over(self) -> None:
        self._has_paused = True
        self.ask()

    def _read(self) -> None:
        if forked_children.is_child():
            return
        with self._lock:
            self._steps += 1
            if not self._is_turn:
                self._watched.end()
                return
            try:
                claimed = self._received()
            except LOST:
                self._break()
                return
            rows: list[int] = []
            if self.claims.has_settled:
                rows, self._rows = self._rows, rows
        if rows:
            self.on_settled(rows)
        if claimed:
            self._hand_over(claimed)
        elif claimed is not None:
            self.ask()

    def _received(self) -> list[Claimed] | None:
        """What is to be handed over; None if the answer is not there, or the turn has ended."""
        claimed = self.claims.poll()
        if claimed is None:
            return None
        # A burst is shared with other containers, and what goes on coming is taken in large pieces.
        self._piece = 2 * self._most if len(claimed) == self._most else 0
        if self.claims.is_doubtful or not self._goes_on or (self._is_last and not claimed):
            self._finish(None)
            return None
        # At once: what is held and not known would be started by the thread when the turn ends.
        self.claimer.held.update([one[:2] for one in claimed])
        return claimed

    def _hand_over(self, claimed: list[Claimed]) -> None:
        attempts: list[Attempt] = []
        for one in claimed[: self.claimer.room.free]:
            attempt = self.admit(one)
            if attempt is None:
                break
            attempts.append(attempt)
        self.claimer.hand_over(attempts)
        self._start()
        rest = claimed[len(attempts) :]
        if rest or self.settles.is_lost:
            with self._lock:
                is_left = self._finish(rest)
            if not is_left:  # user code kept the loop for long, or this thread was slow
                self.give_back(rest)
        elif self._piece:  # there are more
            self.ask()
        elif not self._is_due:
            self._is_due = True
            self._count_down(ROUNDS)

    def _count_down(self, rounds: int) -> None:
        if rounds:
            self.loop.call_soon(self._count_down, rounds - 1)
        else:
            self._is_due = False
            self.ask()

    def _start(self) -> None:
        self.start()
        if self.claimer.handed:
            self._after(self.claimer.patience_left(), self._look_after_handed)

    def _look_after_handed(self) -> None:
        """Give back what has waited for its turn for too long."""
        self._steps += 1
        if self.claimer.handed and self.claimer.patience_left() <= 0:
            self.claimer.room.rest()
            self.give_back(self.claimer.withdrawn())
        self._start()

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it after so long; once, however often it is asked for meanwhile."""

        def run() -> None:
            self._timers.discard(call)
            if not forked_children.is_child():
                call()

        if call not in self._timers:
            self._timers.add(call)
            self.loop.call_later(max(0.0, seconds), run)

"""Claims inputs while others run, as many as there is room for, and puts batches together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from qmodal.store.entries import Claimed
from qmodal.store.pools import BUDGET
from qmodal_workers.container.concurrent.room import Room
from qmodal_workers.container.intake.claim_connection import BLOCK_MS, ClaimConnection
from qmodal_workers.container.intake.intake import STAND_BY_SECONDS, SURE_NS, block_ms
from qmodal_workers.container.process.signals import unsignalled
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.ipc.shared_record import SharedRecord

# How long the thread waits for room, or for the loop, before it looks again whether it is to end.
LOOK_SECONDS = 0.1
# A claim ahead of its turn waits so long for its first input; then what waits for its turn is looked at again.
AHEAD_MS = 10
# A container at its target claims what others have left for so long.
LEFT_OVER_SECONDS = 0.02
# While a batch is put together the server is asked this often for more: a part of the wait, within limits.
BATCH_PARTS, SHORTEST_PAUSE, LONGEST_PAUSE = 10, 0.001, 0.01


class Handed(NamedTuple):
    """A group that is to start; `heard`: cancelled inputs that were heard of when it was claimed; `since`: monotonic."""

    attempts: list[Attempt]
    heard: int
    since: float


class Plan(NamedTuple):
    """A claim of at most so many inputs, which waits for up to `block` ms.

    `is_left_over`: of what others have left for LEFT_OVER_SECONDS. `is_last`: if nothing comes, what is
    held is read again.
    """

    most: int
    block: int | None
    is_left_over: bool = False
    is_last: bool = False


class LoopTurn(Protocol):
    """Claims by the loop itself, for as long as all is as usual (`LoopClaims`)."""

    def is_possible(self) -> bool:
        """Whether the loop can claim now."""

    def serve(self) -> list[Claimed] | None:
        """Have it claim; at the end what is left to hand over, or None if what is held is to be read."""


@dataclass(slots=True, kw_only=True)
class Claimer:
    """A thread that claims, checks (`admit`, None: it was dealt with) and hands groups over (`start_soon`, with a number for `looked`).

    What was handed over and not started after LOOK_SECONDS is given back (`release`): user code keeps
    the loop, and other containers may be idle. So is, after `Room.patience`, what was claimed ahead of its
    turn. `goes_on`: whether more is to be claimed; `on_end` is
    called, by the thread, at its end, with the exception that has ended it, if any.

    An input on its last delivery runs alone: whatever kills the container then takes no other along
    that has been lost as often, only because it ran beside the same one each time.
    """

    claims: ClaimConnection
    record: SharedRecord
    room: Room
    wait_ms: int
    admit: Callable[[Claimed], Attempt | None]
    start_soon: Callable[[int], None]
    release: Callable[[list[Claimed]], None]
    goes_on: Callable[[], bool]
    on_end: Callable[[BaseException | None], None]
    by_loop: LoopTurn | None = None
    handed: deque[Handed] = field(default_factory=deque)
    # What was claimed and is not settled or given back. The settler takes out what it has written.
    held: set[tuple[int, str]] = field(default_factory=set)
    _heard: int = 0
    _number: int = 0  # of what was handed over last
    _needs_empty: bool = False  # something is to run alone, or does
    _taken: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Claim from now on."""
        with unsignalled():
            threading.Thread(target=self._guarded, name="claim", daemon=True).start()

    def take(self) -> Handed | None:
        """By the loop: the next group that is to start, which is not given back any more."""
        try:
            group = self.handed.popleft()
        except IndexError:
            return None
        if not self.handed:
            self._taken.set()
        return group

    def looked(self, number: int) -> None:
        """By the loop: it has taken what it can start of that; the rest is ahead of its turn."""
        if number == self._number:
            self._taken.set()

    @property
    def may_claim(self) -> bool:
        """Whether more is to be claimed."""
        return self.goes_on() and not self.record.is_draining and not self.claims.is_gone

    def _guarded(self) -> None:
        error: BaseException | None = None
        try:
            self._refill()
            while self.may_claim:
                self._turn()
            self.take_back()
        except BaseException as raised:
            error = raised
        self.on_end(error)

    def _turn(self) -> None:
        if self.record.lease_left <= 0:
            # Others take what this box holds for lost: what they put back would come here, to be lost again.
            self.take_back()
            time.sleep(STAND_BY_SECONDS)
            return
        patience = self._patience()
        if self._needs_empty and not self.room.wait_empty(LOOK_SECONDS):
            return
        room = self.room.wait(patience)
        if room <= 0:
            return
        claimed = self._claim(room) if self._needs_thread else self._serve_loop()
        if claimed is None or self.claims.is_doubtful or self.record.lease_left <= SURE_NS:
            self._refill()
        elif claimed:
            self._hand_over(claimed)

    @property
    def _needs_thread(self) -> bool:
        """Whether the next claim is not for the loop."""
        if self.by_loop is None or self._needs_empty or self.record.lease_left <= SURE_NS:
            return True
        return not self.by_loop.is_possible()

    def _serve_loop(self) -> list[Claimed] | None:
        return None if self.by_loop is None else self.by_loop.serve()

    def _patience(self) -> float:
        """Seconds to wait for room: until what waits for its turn has to be given back, which is done here if it has."""
        left = self.patience_left()
        if left > 0:
            return min(left, LOOK_SECONDS)
        self.room.rest()
        self.take_back()
        return LOOK_SECONDS

    def patience_left(self) -> float:
        """Seconds that what was handed over may wait for its turn; LOOK_SECONDS if nothing does."""
        try:
            return self.room.patience - (time.monotonic() - self.handed[0].since)
        except IndexError:
            return LOOK_SECONDS

    def plan(self, piece: int) -> Plan | None:
        """By the loop: the next claim, None if there is nothing to claim now; it counts as sent.

        `piece`: what it may bring beyond `Room.piece`, at most half of what may run.
        """
        room, lease_left = self.room.free, self.record.lease_left
        if room <= 0 or lease_left <= 0 or not self.may_claim:
            return None
        self._heard = self.record.cancels
        return self._plan(room, lease_left, min(piece, self.room.most // 2))

    def _plan(self, room: int, lease_left: int, piece: int = 0) -> Plan:
        below = self.room.target - self.room.taken
        count = min(room, max(piece, self.room.piece))
        if self.room.is_full:
            return Plan(count, block_ms(AHEAD_MS, lease_left))
        if below > 0:
            return Plan(min(count, below), block_ms(BLOCK_MS, lease_left), is_last=True)
        return Plan(max(1, room // 4), None, is_left_over=True)

    def hand_over(self, attempts: list[Attempt]) -> None:
        """By the loop: these start as soon as there is room for them."""
        now, heard = time.monotonic(), self._heard
        self.room.take(len(attempts))
        self.handed.extend([Handed([each], heard, now) for each in attempts])

    def withdrawn(self) -> list[Claimed]:
        """By the loop: what was handed over and has not started, which is to be given back now."""
        claimed: list[Claimed] = []
        with suppress(IndexError):
            while True:
                claimed += [each.claimed for each in self.handed.popleft().attempts]
                self.room.give_back(1)
        return claimed

    def _claim(self, room: int) -> list[Claimed] | None:
        """What came; None if the connection was lost, or nothing came for seconds."""
        self._heard = self.record.cancels
        if self._needs_empty:
            self._needs_empty = False
            return self._ask(1, None)
        if self.room.batch > 1:
            return self._claim_batch()
        plan = self._plan(room, self.record.lease_left)
        if plan.is_left_over:
            self.room.pause(LEFT_OVER_SECONDS)
        claimed = self._ask(plan.most, plan.block)
        return claimed or None if plan.is_last else claimed

    def _claim_batch(self) -> list[Claimed] | None:
        """A batch: what comes until it is full, or `wait_ms` after its first input."""
        size, is_ahead = self.room.batch, self.room.is_full
        claimed = self._ask(
            size, block_ms(AHEAD_MS if is_ahead else BLOCK_MS, self.record.lease_left)
        )
        if not claimed:
            return claimed if is_ahead else None
        began = time.monotonic()
        ends = began + self.wait_ms / 1000
        pause = min(max(self.wait_ms / 1000 / BATCH_PARTS, SHORTEST_PAUSE), LONGEST_PAUSE)
        while len(claimed) < size and self.may_claim:
            more = self._ask(size - len(claimed), None)
            claimed += more or []
            left = ends - time.monotonic()
            if more is None or left <= 0:
                break
            if self._is_stuck(began):
                return self._let_go(claimed)
            if not more:
                time.sleep(min(pause, left))
        return claimed

    def _is_stuck(self, since: float) -> bool:
        """Whether what was claimed then is still ahead of its turn."""
        return self.room.is_full and time.monotonic() - since > self.room.patience

    def _let_go(self, claimed: list[Claimed]) -> list[Claimed]:
        """Others may be idle, and have it; nothing is left of it."""
        self.room.rest()
        self._give_back(claimed)
        return []

    def _ask(self, count: int, block: int | None) -> list[Claimed] | None:
        self.claims.ask((), count=count, block=block)
        return self.claims.answer()

    def _refill(self) -> None:
        """Hand over what the server says is held and this container did not know of."""
        self._heard = self.record.cancels
        # As of before the server is asked: what is settled between its answer and the comparison
        # would pass for unknown, and run a second time.
        known = self.held.copy()
        held = [one for one in self.claims.held() if one[:2] not in known]
        if self.record.lease_left <= 0:
            self.release(held)
        else:
            self._hand_over(held)

    def _hand_over(self, claimed: list[Claimed]) -> None:
        """Start what was claimed, in groups; give back what there is no room for, or was not started."""
        # What came while the container began to end is not started here, either.
        most = self.room.free * self.room.batch if self.may_claim else 0
        self._give_back(claimed[most:])
        attempts = self._set_apart(self._admitted(claimed[:most]))
        now, is_ahead = time.monotonic(), self.room.is_full
        groups = [Handed(each, self._heard, now) for each in grouped(attempts, self.room.batch)]
        if not groups:
            return
        self.room.take(len(groups))
        self._number += 1
        self._taken.clear()
        self.handed.extend(groups)
        self.start_soon(self._number)
        while not (is_ahead or self._taken.wait(LOOK_SECONDS)):
            self.take_back()

    def _admitted(self, claimed: list[Claimed]) -> list[Attempt]:
        attempts: list[Attempt] = []
        for one in claimed:
            self.held.add(one[:2])
            attempt = self.admit(one)
            if attempt is not None:
                attempts.append(attempt)
            elif self.goes_on():  # else it may still be held, and is nothing to start
                self.held.discard(one[:2])
        return attempts

    def _set_apart(self, attempts: list[Attempt]) -> list[Attempt]:
        """What may start now: others without those that have to run alone, or one of these."""
        last = [each for each in attempts if each.claimed.lost >= BUDGET - 1]
        if not last:
            return attempts
        self._needs_empty = True
        others = [each for each in attempts if each.claimed.lost < BUDGET - 1]
        alone = [] if others or self.room.taken else last[:1]
        self._give_back([each.claimed for each in last[len(alone) :]])
        return others + alone

    def take_back(self) -> None:
        """The loop does not come to start them: give them back."""
        while self.handed:
            try:
                group = self.handed.pop()
            except IndexError:
                break
            self._give_back([attempt.claimed for attempt in group.attempts])
            self.room.give_back(1)

    def _give_back(self, claimed: list[Claimed]) -> None:
        if claimed:
            self.release(claimed)
            self.held.difference_update([one[:2] for one in claimed])


def grouped(attempts: list[Attempt], most: int) -> Iterator[list[Attempt]]:
    """Groups of at most so many inputs of the same method, in order."""
    by_method: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_method.setdefault(attempt.envelope.head.method, []).append(attempt)
    for same in by_method.values():
        for at in range(0, len(same), most):
            yield same[at : at + most]

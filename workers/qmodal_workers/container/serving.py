"""The life of a container: claim an input, run it, settle it; until it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qmodal import context
from qmodal.client import Client
from qmodal.exception import ConnectionError, EnqueueError
from qmodal.options import FunctionOptions
from qmodal.store.exchange import Command, Op
from qmodal.store.pools import BUDGET, Claimed, Settled
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import INLINE_BYTES, Outcome
from qmodal.wire.signing import UnknownKeyError, mac_of
from qmodal_workers.container.admission import Admission, RefusedError, UndecodableError
from qmodal_workers.container.claims import Claims
from qmodal_workers.container.elsewhere import Elsewhere
from qmodal_workers.container.emitter import Attempt, Emitter
from qmodal_workers.container.generate import Drive
from qmodal_workers.container.guard import Guard
from qmodal_workers.container.invoke import Invoker, Outdated, Preempted
from qmodal_workers.container.pace import Pace
from qmodal_workers.container.service import Service
from qmodal_workers.container.shelf import LONG_SECONDS, Shelf
from qmodal_workers.container.verdict import next_step
from qmodal_workers.record import STOPPED, Doing, Record

FLUSH_SECONDS = 0.005
REPORT_SECONDS = 2.0
INSIST_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class Serving:
    """One container at work. `reason` says at the end why it stopped by itself, if it did."""

    client: Client
    pool: str
    container: str
    options: FunctionOptions
    service: Service
    invoker: Invoker
    record: Record
    claims: Claims
    admission: Admission
    elsewhere: Elsewhere
    guard: Guard | None = None  # of a pool whose started inputs never run again
    reason: str = ""
    is_unfit: bool = False  # it stops for an input that needs another Python or qmodal
    completed: int = 0
    serial: int = 0
    pace: Pace = field(default_factory=Pace)
    shelf: Shelf = field(init=False)
    _ended: list[Settled] = field(default_factory=list)
    _flushed: float = 0.0
    _reported: float = 0.0
    _is_stopping: bool = False
    _begun: Claimed | None = None  # with a guard: what was started last, settled or not

    def __post_init__(self) -> None:
        self.shelf = Shelf(self._release, time.monotonic_ns, self.record.tick)

    def run(self) -> None:
        """Serve until told to stop; everything claimed is settled or given back at the end."""
        self.shelf.refill(self.claims.held)
        while True:
            claimed = self.shelf.start()
            if claimed is not None:
                self._attempt(claimed)
            elif self._must_stop():
                break
            else:
                self._claim()
        self.claims.settle(self._take_ended())
        self.shelf.release_all()

    def _must_stop(self) -> bool:
        if self.invoker.interrupts.is_preempted and not self._is_stopping:
            self._stop("preempted")
        return self._is_stopping or self.record.is_draining or self.claims.is_gone

    def _claim(self) -> None:
        self._publish("idle")
        ended = self._take_ended()
        claimed = self.claims.claim(
            ended, count=self.pace.count(self.claims.inflight), also=self._learned()
        )
        if claimed:
            self.shelf.put(claimed)
        else:
            # The connection was lost, or nothing came for seconds: what this container holds
            # without knowing, because a reply was lost, nobody else would ever run.
            self.shelf.refill(self.claims.held)

    def _learned(self) -> tuple[Command, ...]:
        """Now and then the pool learns how long its inputs take, in a write that goes anyway."""
        now = time.monotonic()
        if self.pace.service_time is None or now - self._reported < REPORT_SECONDS:
            return ()
        self._reported = now
        key = self.client.keys.pool(self.pool)
        return ((b"HSET", key, b"service_time", round(self.pace.service_time, 6)),)

    def _attempt(self, claimed: Claimed) -> None:
        if self.guard is not None:
            self._begin_once(self.guard, claimed)
        elif claimed.lost == BUDGET - 1 if claimed.is_shaped else False:
            self.shelf.release_all()  # whatever kills us on its last delivery takes nobody along
        try:
            envelope, payload = self.admission.admit(claimed)
        except UnknownKeyError as error:
            self._stop(f"it has another signing key than its callers: {error}")
            self._release([claimed])
            return
        except RefusedError as error:
            self._refuse(claimed, error)
            return
        self._run(claimed, envelope, payload)

    def _refuse(self, claimed: Claimed, error: RefusedError) -> None:
        """Set it aside; or leave it, and this container's place, to a box that can decode it.

        That is charged as a lost delivery is, so it ends even if no container ever starts there.
        """
        reason = str(error)
        if isinstance(error, UndecodableError) and self.elsewhere.has_box_for(error.python):
            self.is_unfit = True
            self._stop(f"it has to make room: {reason}")
            self._reclaim(claimed, reason)
        else:
            self._insist(lambda: self.client.pools.bury(self.pool, claimed, reason=reason))

    def _begin_once(self, guard: Guard, claimed: Claimed) -> None:
        """If this container is lost from now on, that input is; nothing else may be."""
        guard.check()
        self.shelf.release_all()
        self._begun = claimed

    def _run(self, claimed: Claimed, envelope: Envelope, payload: bytes) -> None:
        self.serial += 1
        self._publish("busy", claimed)
        context.enter_input(envelope.call, envelope.index)
        try:
            outcome = self.invoker.invoke(
                self._finder(claimed, envelope), envelope, payload, self.serial
            )
        except (Preempted, Outdated) as left:
            self._leave_undone(claimed, left)
            return
        finally:
            context.leave_input()
        seconds = self.shelf.finish()
        self.completed += 1
        self.pace.ran(seconds)
        if seconds > LONG_SECONDS:
            # It has ended: the worker must not time it out while the server keeps us waiting.
            self._publish("idle")
        self._conclude(claimed, envelope, outcome)
        if self.options.single_use_containers:
            self._stop("single use")
        if seconds > LONG_SECONDS:
            self._look_again()
        elif time.monotonic() - self._flushed > FLUSH_SECONDS and len(self.shelf):
            self.claims.settle(self._take_ended())

    def _leave_undone(self, claimed: Claimed, why: Preempted | Outdated) -> None:
        if isinstance(why, Outdated):
            self._stop("an input needs a newer version of the app")
            self._release([claimed])
        else:
            self._stop("user code was interrupted")
            self._give_back(claimed)

    def _give_back(self, claimed: Claimed) -> None:
        """An interrupted input runs elsewhere; one that interrupts itself does so a few times only.

        With a guard it has had its one run.
        """
        interrupts = self.invoker.interrupts
        was_told = interrupts.is_preempted or interrupts.why == STOPPED
        if was_told and self.guard is None:
            self._release([claimed])
            return
        reason = "its container was stopped" if was_told else "user code raised KeyboardInterrupt"
        self._reclaim(claimed, reason)

    def _reclaim(self, claimed: Claimed, reason: str) -> None:
        """Give it back as one that had its try here; this container must be about to stop."""
        self.claims.settle(self._take_ended())
        reclaim = partial(
            self.client.pools.reclaim,
            self.pool,
            self.container,
            reason=reason,
            charged=[f"{claimed.lane} {claimed.entry}"],
            budget=BUDGET if self.guard is None else 1,
        )
        self._insist(reclaim)

    def _finder(self, claimed: Claimed, envelope: Envelope) -> Callable[[], Callable[..., Any]]:
        method = envelope.method
        if method not in self.service.generators:
            return lambda: self.service.find(method)
        attempt = Attempt(
            pool=self.pool, container=self.container, claimed=claimed, envelope=envelope
        )
        emitter = Emitter(self.client, attempt, plain_only=self.invoker.plain_only)
        return lambda: Drive(self.service.find(method), emitter, self.invoker.loop)

    def _conclude(self, claimed: Claimed, envelope: Envelope, outcome: Outcome) -> None:
        delay = next_step(outcome, self.options.retries, claimed.retries)
        if delay is not None:
            self._insist(lambda: self.client.pools.retry(self.pool, claimed, delay=delay))
            return
        sealed = self._stored(envelope, outcome).seal(
            self.client.signer,
            call=envelope.call,
            index=envelope.index,
            request=mac_of(claimed.envelope),
        )
        has_blob = envelope.blob is not None
        self._ended.append(
            Settled(claimed.lane, claimed.entry, envelope.call, envelope.index, sealed, has_blob)
        )

    def _stored(self, envelope: Envelope, outcome: Outcome) -> Outcome:
        if len(outcome.payload) <= INLINE_BYTES:
            return outcome
        return self.admission.store_result(envelope, outcome)

    def _look_again(self) -> None:
        """After a long input the worker may have released, from outside, what lay behind it."""
        if len(self.shelf):
            self.claims.settle(self._take_ended())
            self.shelf.refill(self.claims.held)

    def _take_ended(self) -> list[Settled]:
        ended, self._ended = self._ended, []
        self._flushed = time.monotonic()
        return ended

    def _release(self, claimed: list[Claimed]) -> None:
        held = [(one.lane, one.entry, one.call) for one in claimed]
        self._insist(lambda: self.client.pools.release(self.pool, held))

    def _insist(self, operation: Callable[[], Op[Any]]) -> None:
        """Carry it out for as long as it takes: to die of an outage would run the input again."""
        while True:
            try:
                self.client.run(operation())
            except (ConnectionError, EnqueueError):
                time.sleep(INSIST_SECONDS)
            else:
                return

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self._is_stopping = True
        self.shelf.release_all()

    def _publish(self, state: Any, running: Claimed | None = None) -> None:
        waiting = self.shelf.waiting() if len(self.shelf) else []
        begun = running or self._begun
        held = waiting if begun is None else [begun, *waiting]
        self.record.write(
            Doing(
                state=state,
                connection=self.claims.connection,
                serial=0 if running is None else self.serial,
                started=time.monotonic_ns(),
                timeout=int(self.invoker.timeout * 1e9),
                completed=self.completed,
                running=int(begun is not None),
                held=tuple((one.lane, *_entry_numbers(one.entry)) for one in held),
            )
        )


def _entry_numbers(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence)

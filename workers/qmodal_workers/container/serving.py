"""The life of a container: claim an input, run it, settle it; until it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qmodal import context
from qmodal.client import Client
from qmodal.exception import ExecutionError
from qmodal.options import FunctionOptions
from qmodal.store.exchange import Command
from qmodal.store.pools import BUDGET, Claimed, Settled, charge
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import Outcome
from qmodal.wire.signing import UnknownKeyError
from qmodal_workers.container.admission import Admission, RefusedError
from qmodal_workers.container.claims import Claims
from qmodal_workers.container.conclude import Conclusions
from qmodal_workers.container.emitter import Attempt, Emitter
from qmodal_workers.container.generate import Drive
from qmodal_workers.container.invoke import Admitted, Invoker, Preempted, flush
from qmodal_workers.container.pace import Pace
from qmodal_workers.container.pack import Pack, run
from qmodal_workers.container.service import Service
from qmodal_workers.container.shelf import LONG_SECONDS, Shelf
from qmodal_workers.record import STATES, Record

IDLE, BUSY = STATES.index("idle"), STATES.index("busy")
FLUSH_SECONDS = 0.005
REPORT_SECONDS = 2.0


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
    reason: str = ""
    completed: int = 0
    serial: int = 0
    pace: Pace = field(default_factory=Pace)
    shelf: Shelf = field(init=False)
    conclusions: Conclusions = field(init=False)
    _taken: int = 0  # from the front of what was claimed last
    _flushed: float = 0.0
    _reported: float = 0.0
    _is_stopping: bool = False

    def __post_init__(self) -> None:
        self.conclusions = Conclusions(
            client=self.client,
            pool=self.pool,
            container=self.container,
            options=self.options,
            admission=self.admission,
        )
        self.shelf = Shelf(
            self.conclusions.release,
            self.conclusions.split_off,
            clock=time.monotonic_ns,
            tick=self.record.tick,
        )
        self.record.timeout = int(self.invoker.timeout * 1e9)

    def run(self) -> None:
        """Serve until told to stop; everything claimed is settled or given back at the end."""
        self._refill()
        while True:
            claimed = self.shelf.start()
            if claimed is not None:
                self._attempt(claimed)
            elif self._must_stop():
                break
            else:
                self._claim()
        context.leave_input()
        self._settle()
        self.shelf.release_all()

    def _must_stop(self) -> bool:
        if self.invoker.interrupts.is_preempted and not self._is_stopping:
            self._stop("preempted")
        return self._is_stopping or self.record.is_draining or self.claims.is_gone

    def _claim(self) -> None:
        context.leave_input()
        self._publish_idle()
        ended = self._take_ended()
        claimed = self.claims.claim(
            ended, count=self.pace.count(self.claims.inflight), also=self._learned()
        )
        if claimed:
            self.shelf.put(claimed)
            self._note(claimed)
        else:
            # The connection was lost, or nothing came for seconds: what this container holds
            # without knowing, because a reply was lost, nobody else would ever run.
            self._refill()

    def _refill(self) -> None:
        self.shelf.refill(self.claims.held)
        self._note(self.shelf.waiting())

    def _note(self, claimed: Sequence[Claimed]) -> None:
        self._taken = 0
        self.record.connection = self.claims.connection
        self.record.hold([(lane, *_entry_numbers(entry)) for lane, entry, _ in claimed])

    def _learned(self) -> tuple[Command, ...]:
        """Now and then the pool learns how long its inputs take, in a write that goes anyway."""
        now = time.monotonic()
        if self.pace.service_time is None or now - self._reported < REPORT_SECONDS:
            return ()
        self._reported = now
        key = self.client.keys.pool(self.pool)
        return ((b"HSET", key, b"service_time", round(self.pace.service_time, 6)),)

    def _attempt(self, claimed: Claimed) -> None:
        self._taken += 1
        try:
            admitted = self.admission.admit(claimed)
            rows = self.admission.rows(claimed, admitted) if admitted[0].count > 1 else None
        except UnknownKeyError as error:
            self._stop(f"it has another signing key than its callers: {error}")
            self.conclusions.release([claimed])
            return
        except RefusedError as error:
            bury = partial(self.client.pools.bury, self.pool, claimed, reason=str(error))
            self.conclusions.insist(bury)
            return
        if claimed.lost == BUDGET - 1:
            self.shelf.release_all()  # whatever kills us on its last delivery takes nobody along
        try:
            if rows is None:
                self._run(claimed, admitted)
            else:
                self._run_pack(Pack(claimed, admitted[0], *rows, len(rows[1]), self.shelf.lock))
        except Preempted:
            self._stop("user code was interrupted")
            self._give_back(claimed)
            return
        if self.options.single_use_containers:
            self._stop("single use")

    def _run(self, claimed: Claimed, admitted: Admitted) -> None:
        self.serial += 1
        self._publish_busy()
        envelope = admitted[0]
        context.enter_input(envelope.call, envelope.index)
        began = time.time_ns() // 1_000_000
        result = self.invoker.invoke(self._find, claimed, admitted, self.serial)
        seconds = self.shelf.finish()
        self.completed += 1
        self.pace.ran(seconds)
        if seconds > LONG_SECONDS:
            # It has ended: the worker must not time it out while the server keeps us waiting.
            self._publish_idle()
        outcome = Outcome(*result, self.container, began, int(seconds * 1e6))
        self.conclusions.input(claimed, envelope, outcome)
        self._go_on(seconds)

    def _run_pack(self, work: Pack) -> None:
        self._publish_busy(work.claimed.first)
        self.shelf.work_on(work)
        function = self._found(work)
        try:
            self.serial = run(work, function, self.invoker, self.serial, self.record.advance)
        except Preempted:
            self.serial += len(work.rows)
            if not self.invoker.interrupts.is_preempted:
                self.conclusions.leave_alone(work)  # it alone is charged for interrupting itself
                raise
            self._conclude(work)
            raise
        self._conclude(work)
        seconds = self.shelf.finish()
        self.pace.ran(seconds, len(work.rows))
        self._go_on(seconds)

    def _conclude(self, work: Pack) -> None:
        self.shelf.work_on(None)
        self.completed += work.running + 1
        self._publish_idle()
        self.conclusions.pack(work)

    def _found(self, work: Pack) -> Callable[..., Any]:
        try:
            return self.service.find(work.envelope.method)
        except ExecutionError as error:
            return partial(_fail, error)

    def _go_on(self, seconds: float) -> None:
        """After an input or a pack that took so long."""
        if seconds > LONG_SECONDS:
            self._look_again()
        elif len(self.shelf) and time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._settle()

    def _give_back(self, claimed: Claimed) -> None:
        """An interrupted input runs elsewhere; one that interrupts itself does so a few times only."""
        if self.invoker.interrupts.is_preempted:
            self.conclusions.release([claimed])
            return
        self._settle()
        reason, charged = "user code raised KeyboardInterrupt", [charge(claimed)]
        pools, pool = self.client.pools, self.pool
        self.conclusions.insist(
            lambda: pools.reclaim(pool, self.container, reason=reason, charged=charged)
        )

    def _find(self, claimed: Claimed, envelope: Envelope) -> Callable[..., Any]:
        method = envelope.method
        if method not in self.service.generators:
            return self.service.find(method)
        attempt = Attempt(
            pool=self.pool, container=self.container, claimed=claimed, envelope=envelope
        )
        emitter = Emitter(self.client, attempt, plain_only=self.invoker.plain_only)
        return Drive(self.service.find(method), emitter, self.invoker.loop)

    def _look_again(self) -> None:
        """After a long input the worker may have released, from outside, what lay behind it."""
        if len(self.shelf):
            self._settle()
            self._refill()

    def _settle(self) -> None:
        self.claims.settle(self._take_ended())

    def _take_ended(self) -> list[Settled]:
        flush()
        self._flushed = time.monotonic()
        return self.conclusions.take()

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self._is_stopping = True
        self.shelf.release_all()

    def _publish_busy(self, part: int = 0) -> None:
        taken = self._taken
        end = taken + len(self.shelf)
        since, completed = self.shelf.since, self.completed
        self.record.post(BUSY, self.serial, since, completed, 2, taken - 1, end, part)

    def _publish_idle(self) -> None:
        taken = self._taken
        end = taken + len(self.shelf)
        self.record.post(IDLE, 0, time.monotonic_ns(), self.completed, 0, taken, end)


def _entry_numbers(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence)


def _fail(error: Exception, *_args: object, **_kwargs: object) -> None:
    raise error

"""The life of a container that runs several inputs at once, or in batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed
from qmodal.wire.outcome import Result, text_outcome
from qmodal.wire.signing import UnknownKeyError
from qmodal_workers.container.concurrent.claimer import Claimer, Handed
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.concurrent.interrupts import ConcurrentInterrupts
from qmodal_workers.container.concurrent.invocation import Invocation
from qmodal_workers.container.concurrent.leftovers import Leftovers
from qmodal_workers.container.concurrent.loop_claims import LoopClaims
from qmodal_workers.container.concurrent.room import Room
from qmodal_workers.container.concurrent.running import Running
from qmodal_workers.container.concurrent.settling.writer import Writer
from qmodal_workers.container.concurrent.user_threads import MainThread
from qmodal_workers.container.concurrent.wanted import drop_unwanted
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.intake.stop import StopRequest
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.container.process.output_marks import OutputMarks
from qmodal_workers.container.run.admission import RefusedError
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.code import CodeFinder
from qmodal_workers.container.run.invoker import Invoker, Outdated, Preempted
from qmodal_workers.container.run.service import Service
from qmodal_workers.container.run.user_loop import UserLoop
from qmodal_workers.container.settle.coalesce import Done
from qmodal_workers.container.settle.rerouting import Rerouting
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import STOPPED, TIMEOUT, SharedRecord

# Tasks that are cancelled because the container leaves have so long to clean up.
LEAVE_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class ConcurrentSession:
    """One container at work: a loop on the main thread, one thread that claims, and one that writes.

    The loop starts groups and takes what became of them; user code runs in its tasks, or in threads.
    While all is as usual the loop claims and writes by itself (`LoopClaims`), and the threads wait.
    `stop` says at the end why it stopped by itself, if it did. What runs in the loop and what runs
    before it do so in `context`, that of the enter hooks.
    """

    record: SharedRecord
    claims: ClaimConnection
    settlement: Settlement
    invocation: Invocation
    loop: UserLoop
    room: Room
    running: Running
    leftovers: Leftovers
    stop: StopRequest
    guard: LeaseGuard | None
    context: Context
    writer: Writer = field(init=False)
    claimer: Claimer = field(init=False)
    by_loop: LoopClaims = field(init=False)
    completed: int = 0  # inputs that have ended here
    _is_claiming: bool = True
    _is_leaving: bool = False
    _together: int = 0  # groups that ran when the container began to leave
    _failure: BaseException | None = None
    # What has ended since the claimer and the settler were told, and the rows and groups of that: to
    # wake a thread for each of many costs more than they do.
    _done: list[Done] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)
    _ended_rows: int = 0
    _groups: int = 0
    _seconds: float = 0.0  # of the last group

    @classmethod
    def create(
        cls,
        *,
        record: SharedRecord,
        claims: ClaimConnection,
        settlement: Settlement,
        service: Service,
        invoker: Invoker,
        loop: UserLoop,
        rerouting: Rerouting,
        marks: OutputMarks,
    ) -> ConcurrentSession:
        """The parts of a container, connected with each other; nothing is claimed yet."""
        options, running = settlement.options, Running(record, marks)
        room, stop = Room(options), StopRequest()
        made = cls(
            record=record,
            claims=claims,
            settlement=settlement,
            invocation=Invocation(
                invoker=invoker,
                finder=CodeFinder(
                    client=settlement.client,
                    pool=settlement.pool,
                    container=settlement.container,
                    service=service,
                    invoker=invoker,
                ),
                interrupts=ConcurrentInterrupts(record, running.groups, loop),
                user_loop=loop,
                main=MainThread(loop),
                is_alone=room.most == 1,
                spans=settlement.spans,
            ),
            loop=loop,
            room=room,
            running=running,
            leftovers=Leftovers(settlement, rerouting, stop),
            stop=stop,
            guard=LeaseGuard(record) if options.is_once else None,
            context=copy_context(),
        )
        record.timeout = int(invoker.timeout * 1e9)
        made.writer = Writer(claims, settlement, made._written)
        made.claimer = made._made_claimer(options)
        made._connect_loop(service)
        return made

    def _connect_loop(self, service: Service) -> None:
        """Have the loop claim by itself, unless plain user code needs its thread or inputs come in batches."""
        claimer = self.claimer
        self.by_loop = self.writer.by_loop = LoopClaims(
            claimer=claimer,
            claims=self.claims,
            settles=self.writer.connection,
            loop=self.loop.get_loop(),
            admit=self.settlement.admission.admit_fresh,
            start=self._start_handed,
            give_back=self._release,
            on_settled=self._written,
        )
        if self.room.batch == 1 and (self.room.most > 1 or service.is_async):
            claimer.by_loop = self.by_loop

    def _made_claimer(self, options: FunctionOptions) -> Claimer:
        return Claimer(
            claims=self.claims,
            record=self.record,
            room=self.room,
            wait_ms=options.wait_ms or 0,
            admit=self._admit,
            start_soon=lambda number: self._soon(self._start_handed, number),
            release=self.settlement.release,
            goes_on=lambda: not self.stop.is_made,
            on_end=lambda error: self._soon(self._claimer_ended, error),
        )

    def run(self) -> None:
        """Serve until told to stop; everything claimed is settled or given back at the end."""
        self.writer.start()
        try:
            self.invocation.interrupts.arm(self.loop.get_loop(), self.leave)
            self._publish()
            self.claimer.start()
            self.invocation.main.serve()
        finally:
            self._is_leaving = True  # whatever has ended it, nothing starts any more
            self.by_loop.finish()
            self._tell()
            self.writer.finish()
            self.leftovers.reclaim()
        if self._failure is not None:
            raise self._failure

    def leave(self, reason: str) -> None:
        """End without the inputs that run: whoever can be interrupted is, the rest is given back."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self._together = self.running.count
        self._make_stop(reason)
        interrupts = self.invocation.interrupts
        for group in self.running.groups():
            if not group.slot.why and not interrupts.is_preempted:
                group.slot.why = STOPPED
                interrupts.stop(group)
        self.loop.get_loop().call_later(LEAVE_SECONDS, self._abandon)
        self._look()

    def _make_stop(self, reason: str) -> None:
        """By any thread: nothing more is claimed."""
        self.stop.make(reason)
        self.room.close()
        self.claims.end_wait()

    def _look(self) -> None:
        """Whether the container is at its end: whenever that may be."""
        if self._is_claiming:
            return
        groups = self.running.groups()
        if self._is_leaving and all(each.is_beyond_reach for each in groups):
            self._abandon()
        elif not groups:
            self.invocation.main.end()

    def _abandon(self) -> None:
        """End without what runs on although it was to stop."""
        for group in self.running.groups():
            self._end_abandoned(group)
        self.invocation.main.end()

    def _end_abandoned(self, group: Group) -> None:
        """What ran out of time has ended so, others run elsewhere."""
        if group.slot.why == TIMEOUT:
            text = f"the input ran longer than {self.invocation.invoker.timeout:g} s"
            outcome = text_outcome("timeout", text)
            self._ended(group, [(outcome.kind, outcome.format, outcome.payload)] * len(group.rows))
        else:
            self._left_undone(group)

    def _claimer_ended(self, error: BaseException | None) -> None:
        self._failure = error
        self._is_claiming = False
        self._look()

    def _soon(self, call: Callable[..., None], *args: Any) -> None:
        """Have the loop do it, from another thread."""
        with suppress(RuntimeError):  # it was closed: the container is about to end
            self.loop.get_loop().call_soon_threadsafe(call, *args)

    def _admit(self, claimed: Claimed) -> Attempt | None:
        """By the claimer: the entry as an attempt; None if something else becomes of it."""
        if claimed.is_shaped and claimed.size > 1:  # packed by a producer that knew other options
            self.settlement.scatter(claimed)
            return None
        try:
            return self.settlement.admission.admit(claimed)
        except UnknownKeyError as error:
            self._make_stop(f"it has another signing key than its callers: {error}")
            self.settlement.release([claimed])
        except RefusedError as error:
            if self.leftovers.refuse(claimed, error):
                self._make_stop(self.stop.reason)
        return None

    def _start_handed(self, number: int = 0) -> None:
        """Start what the claimer has handed over, as far as there is room for it."""
        started: list[tuple[Group, int]] = []
        # A newer version may be about to answer.
        is_ending = self._is_leaving or self.record.is_replaced
        while is_ending or self.running.count < self.room.most:
            handed = self.claimer.take()
            if handed is None:
                break
            if is_ending:
                self._release([each.claimed for each in handed.attempts])
            else:
                started.append((self._start(handed), handed.heard))
        if started:  # called when each has had its first step
            self.loop.get_loop().call_soon(self._watch_unbegun, started)
        self.claimer.looked(number)
        self._publish()

    def _start(self, handed: Handed) -> Group:
        if self.guard is not None:
            self.guard.check()
        group = self.running.start(handed.attempts)
        self.invocation.interrupts.look(group)
        self._spawn(group, handed.heard)
        if self.settlement.options.single_use_containers:
            self._make_stop("single use")
        return group

    def _spawn(self, group: Group, heard: int) -> None:
        # A context for each: what an input sets is not there for the next one.
        work, own = self._attempt(group, heard), self.context.copy()
        group.has_begun = False
        group.task = self.loop.get_loop().create_task(work, context=own)

    def _watch_unbegun(self, started: list[tuple[Group, int]]) -> None:
        """Those that were cancelled before their first step cannot see to that themselves, as `_attempt` does."""
        for group, heard in started:
            if not group.has_begun:
                self._watch(group, heard)

    def _watch(self, group: Group, heard: int) -> None:
        if group.task is not None:
            group.task.add_done_callback(lambda task: self._over(task, group, heard))

    def _over(self, task: asyncio.Task[None], group: Group, heard: int) -> None:
        if not group.is_over and task.cancelled() and not self._is_leaving:
            # User code has cancelled all tasks that it found, and this one had not begun.
            self._spawn(group, heard)
            self.loop.get_loop().call_soon(self._watch_unbegun, [(group, heard)])
            return
        if not group.is_over:
            self._left_undone(group)
            self.leave("an input could not be run")
        self._look()

    async def _attempt(self, group: Group, heard: int) -> None:
        """Run the group and pass on what became of it."""
        group.has_begun = True
        try:
            await self._run(group, heard)
        finally:
            if not group.is_over:
                self._watch(group, heard)

    async def _run(self, group: Group, heard: int) -> None:
        results: list[Result] = []
        has_run = True
        try:
            if heard != self.record.cancels:
                await drop_unwanted(group, heard, self.record, self.settlement)
            results = await self.invocation.run(group)
        except Outdated:
            has_run = False
            self._make_stop("an input needs a newer version of the app")
        except Preempted:
            self.leave("user code was interrupted")
        if group.is_over:  # it was abandoned
            return
        if results:
            self._ended(group, results)
        else:
            self._left_undone(group, has_run=has_run)

    def _ended(self, group: Group, results: list[Result]) -> None:
        """The group has results: have them written."""
        now = time.monotonic_ns()
        seconds = self._seconds = (now - group.slot.started) / 1e9
        self.completed += len(results)
        self._finish(group)
        self._rows += group.rows
        self._done += [
            Done(attempt.claimed, attempt.envelope, result, now, seconds)
            for attempt, result in zip(group.attempts, results, strict=True)
        ]

    def _left_undone(self, group: Group, *, has_run: bool = True) -> None:
        """It has no outcome here: it runs elsewhere, and what was cancelled is gone already."""
        is_alone = (self._together or self.running.count) == 1
        is_charged = has_run and self.leftovers.charge(group, is_alone=is_alone)
        self._finish(group)
        if not is_charged:  # else its rows stay: if the container dies first, it is charged by them
            claimed = [
                attempt.claimed
                for row, attempt in zip(group.rows, group.attempts, strict=True)
                if row not in group.cancelled
            ]
            self.writer.release(claimed, partial(self._written, group.rows))

    def _finish(self, group: Group) -> None:
        self.running.finish(group)
        if not self._ended_rows:
            self.loop.get_loop().call_soon(self._end_round)
        self._ended_rows += len(group.rows)
        self._groups += 1

    def _tell(self) -> None:
        """Tell the others what has ended in this round of the loop."""
        done, rows = self._done, self._rows
        ended, groups = self._ended_rows, self._groups
        self._done, self._rows, self._ended_rows, self._groups = [], [], 0, 0
        if groups:
            self.room.ended(ended, groups, self._seconds)
        self._start_handed()
        if rows:
            self.writer.settle(done, rows)
        self.by_loop.ask()

    def _end_round(self) -> None:
        self._tell()
        self._look()

    def _release(self, claimed: list[Claimed]) -> None:
        """What was claimed and has not started runs elsewhere."""
        names = [one[:2] for one in claimed]
        if claimed:
            self.writer.release(claimed, partial(self.claimer.held.difference_update, names))

    def _written(self, rows: list[int]) -> None:
        """By any thread: what became of what stood in these rows is written."""
        for lane, entry in self.running.settled(rows):
            self.claimer.held.discard((lane, entry))
        self.room.written(len(rows))

    def _publish(self) -> None:
        self.running.publish(self.claims.client_id, self.completed)

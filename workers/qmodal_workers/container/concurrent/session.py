"""The life of a container that runs several inputs at once, or in batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from qmodal.exception import Error
from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed
from qmodal.wire.outcome import Result, text_outcome
from qmodal.wire.remote_error import printed
from qmodal.wire.signing import UnknownKeyError
from qmodal_workers.container.concurrent.claimer import Claimer, Handed
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.concurrent.interrupts import ConcurrentInterrupts
from qmodal_workers.container.concurrent.invocation import Invocation
from qmodal_workers.container.concurrent.leftovers import Leftovers
from qmodal_workers.container.concurrent.room import Room
from qmodal_workers.container.concurrent.running import Running
from qmodal_workers.container.concurrent.settler import Settler
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.intake.stop import StopRequest
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.container.process.own_output import show
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
    `stop` says at the end why it stopped by itself, if it did.
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
    settler: Settler = field(init=False)
    claimer: Claimer = field(init=False)
    _claims_end: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _is_leaving: bool = False
    _failure: BaseException | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

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
    ) -> ConcurrentSession:
        """The parts of a container, connected with each other; nothing is claimed yet."""
        options, running = settlement.options, Running(record)
        room, stop = Room(options), StopRequest()
        interrupts = ConcurrentInterrupts(record, running.groups)
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
                interrupts=interrupts,
                is_alone=room.most == 1,
            ),
            loop=loop,
            room=room,
            running=running,
            leftovers=Leftovers(settlement, rerouting, stop),
            stop=stop,
            guard=LeaseGuard(record) if options.is_once else None,
        )
        record.timeout = int(invoker.timeout * 1e9)
        made.settler = Settler(claims, settlement, made._settled)
        made.claimer = made._made_claimer(options)
        return made

    def _made_claimer(self, options: FunctionOptions) -> Claimer:
        return Claimer(
            claims=self.claims,
            record=self.record,
            room=self.room,
            wait_ms=options.wait_ms or 0,
            admit=self._admit,
            start_soon=lambda: self._soon(self._start_handed),
            release=self.settlement.release,
            goes_on=lambda: not self.stop.is_made,
            on_end=lambda error: self._soon(self._claimer_ended, error),
        )

    @property
    def completed(self) -> int:
        """How many inputs have ended here."""
        return self.running.completed

    def run(self) -> None:
        """Serve until told to stop; everything claimed is settled or given back at the end."""
        self.settler.start()
        try:
            self._until_over()
        finally:
            self.running.publish(self.claims.client_id)
            self.leftovers.give_back(self.settler)
            self.settler.finish()
            self.leftovers.reclaim()
        if self._failure is not None:
            raise self._failure

    def _until_over(self) -> None:
        """Run the loop until all is over; what a task of user code's own ends it with, ends nothing else."""
        loop = self.loop.get_loop()
        serving = loop.create_task(self._serve())
        while not serving.done():
            try:
                loop.run_until_complete(serving)
            except (SystemExit, KeyboardInterrupt) as error:
                if serving.done():
                    raise
                show(printed(error))

    async def _serve(self) -> None:
        self.invocation.interrupts.arm(asyncio.get_running_loop(), self.leave)
        self.running.publish(self.claims.client_id)
        self.claimer.start()
        await self._claims_end.wait()
        while self._tasks and not self._is_leaving:
            self._changed.clear()
            await self._changed.wait()
        if self._tasks:
            await self._abandon()

    def leave(self, reason: str) -> None:
        """End without the inputs that run: whoever can be interrupted is, the rest is given back."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self._make_stop(reason)
        for group in self.running.groups():
            if group.slot.task is not None and not group.slot.why:
                group.slot.why = STOPPED
                group.slot.task.cancel()
        self._changed.set()

    def _make_stop(self, reason: str) -> None:
        self.stop.make(reason)
        self.room.close()
        self.claims.end_wait()

    async def _abandon(self) -> None:
        tasks = [each.task for each in self.running.groups() if each.slot.task is not None]
        if tasks:
            await asyncio.wait([each for each in tasks if each is not None], timeout=LEAVE_SECONDS)
        for group in self.running.groups():
            self._end_abandoned(group)

    def _end_abandoned(self, group: Group) -> None:
        """A group whose thread runs on: one that ran out of time has ended so, others run elsewhere."""
        if group.slot.why == TIMEOUT:
            text = f"the input ran longer than {self.invocation.invoker.timeout:g} s"
            outcome = text_outcome("timeout", text)
            self._ended(group, [(outcome.kind, outcome.format, outcome.payload)] * len(group.rows))
        else:
            self.leftovers.release(group)
            self.running.end(group)

    def _claimer_ended(self, error: BaseException | None) -> None:
        self._failure = error
        self._claims_end.set()

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
            self._soon(self._make_stop, f"it has another signing key than its callers: {error}")
            self.settlement.release([claimed])
        except RefusedError as error:
            if self.leftovers.refuse(claimed, error):
                self._soon(self._make_stop, self.stop.reason)
        return None

    def _start_handed(self) -> None:
        """Start what the claimer has handed over."""
        while (handed := self.claimer.take()) is not None:
            self._start(handed)
        self.running.publish(self.claims.client_id)

    def _start(self, handed: Handed) -> None:
        if self.guard is not None:
            self.guard.check()
        group = self.running.start(handed.attempts)
        self.invocation.interrupts.look(group)
        self._spawn(group, self._attempt(group, handed.heard))
        if self.settlement.options.single_use_containers:
            self._make_stop("single use")

    def _spawn(self, group: Group, work: Coroutine[Any, Any, None]) -> None:
        group.task = task = asyncio.get_running_loop().create_task(work, context=copy_context())
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._changed.set()

    async def _attempt(self, group: Group, heard: int) -> None:
        """Run the group and pass on what became of it."""
        results: list[Result] = []
        try:
            await self._check_wanted(group, heard)
            results = await self.invocation.run(group)
        except Outdated:
            self.leftovers.release(group)
            self._make_stop("an input needs a newer version of the app")
        except Preempted:
            self.leftovers.preempted(group)
            self.leave("user code was interrupted")
        except asyncio.CancelledError:  # before its user code began
            self.leftovers.release(group)
        if not group.is_over:  # else it was abandoned
            self._ended(group, results) if results else self.running.end(group)
            self.room.give_back(1)
            self.running.publish(self.claims.client_id)

    async def _check_wanted(self, group: Group, heard: int) -> None:
        """What was cancelled between its claim and its start does not start."""
        client, now = self.settlement.client, self.record.cancels
        while now != heard:
            heard = now
            for row, attempt in zip(group.rows, group.attempts, strict=True):
                claimed = attempt.claimed
                held = client.pools.holds(
                    self.settlement.pool, self.settlement.container, claimed.lane, claimed.entry
                )
                with suppress(Error):  # without an answer it stays ours until we settle it
                    if not await client.aio(held):
                        group.cancel(row)
            now = self.record.cancels

    def _ended(self, group: Group, results: list[Result]) -> None:
        """The group has results: have them written."""
        now = time.monotonic_ns()
        seconds = (now - group.slot.started) / 1e9
        self.running.finish(group)
        done = [
            Done(attempt.claimed, attempt.envelope, result, now, seconds)
            for attempt, result in zip(group.attempts, results, strict=True)
        ]
        self.settler.put(done, group.rows)

    def _settled(self, rows: list[int]) -> None:
        """By the settler: what stood in these rows is written."""
        for lane, entry in self.running.settled(rows):
            self.claimer.held.discard((lane, entry))

"""Finds calls: in the pools' streams, among the notes of failures and dead letters, and by their records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from qmodal.cli.commands.finding.inputs import UnreadableError, opened
from qmodal.cli.commands.finding.scope import Scope, observed
from qmodal.client.client import Client
from qmodal.spec.web import full_name
from qmodal.store.results.dead import DeadLetter
from qmodal.store.results.failures import Failure
from qmodal.store.results.outputs import CallRecord
from qmodal.store.watch.observing import Observation, QueuedEntry
from qmodal.transport.operation import Op
from qmodal.transport.sharing.gather import gather
from qmodal.wire.outcome import told

# Pools whose streams are read together.
POOLS_AT_ONCE = 100
# Records of finished calls that a list looks at, and for how long it looks for them.
MOST_KEPT, SCAN_SECONDS = 10_000, 2.0
# Notes and dead letters that are read together.
PAGE = 100
Keep = Callable[[Failure], Failure | None]
State = Literal["failed", "running", "waiting", "done", "cancelled"]
Wanted = Literal["failed", "running", "waiting"]


@dataclass(slots=True, kw_only=True)
class FoundCall:
    """One call as far as it was found; counts are inputs, `created` and `last` are in ms since 1970.

    `last`: when it was created, or when an input of it failed last.
    """

    call: str
    app: str = ""
    function: str = ""
    created: int = 0
    last: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    container: str = ""
    reason: str = ""
    pool: str = ""  # as far as an input of it stands there
    ended: State | None = None

    @property
    def state(self) -> State:
        """What most people want to know of it first."""
        if self.running:
            return "running"
        if self.waiting:
            return "waiting"
        return "failed" if self.failed else self.ended or "done"


@dataclass(slots=True)
class CallFinder:
    """Collects the calls of a scope; of each source at most `limit` entries of a pool or function."""

    client: Client
    scope: Scope
    limit: int
    found: dict[str, FoundCall] = field(default_factory=dict)

    def find(self, wanted: Wanted | None) -> Op[list[FoundCall]]:
        """The calls that have such inputs, or all; the newest first."""
        if wanted != "failed":
            yield from self._queued()
        if wanted in (None, "failed"):
            yield from self._failed()
        if wanted is None:
            yield from self._kept()
        calls = [each for each in self.found.values() if wanted is None or getattr(each, wanted)]
        yield from self._complete(calls)
        calls = [each for each in calls if max(each.created, each.last) >= self.scope.since]
        return sorted(calls, key=lambda each: each.created, reverse=True)[: self.limit]

    def _queued(self) -> Op[None]:
        active = yield from self.client.observing.active()
        seen = yield from observed(self.client, active)
        pools = [each for each in seen.values() if self.scope.has(each.app, each.function)]
        for start in range(0, len(pools), POOLS_AT_ONCE):
            chunk = pools[start : start + POOLS_AT_ONCE]
            queue = self.client.observing.queue
            read = yield from gather(queue(each.pool, count=self.limit) for each in chunk)
            for pool, entries in zip(chunk, read, strict=True):
                for entry in entries if isinstance(entries, list) else ():
                    self._add_queued(pool, entry)

    def _add_queued(self, pool: Observation, entry: QueuedEntry) -> None:
        try:
            head = opened(self.client, entry.claimed.envelope).head
        except UnreadableError:  # whoever claims it sets it aside
            return
        if not self.scope.has(pool.app, pool.function, head.method):
            return
        call = self._call(head.call, pool.app, full_name(pool.function, head.method), head.created)
        call.pool = pool.pool
        if entry.place == "running":
            call.running += entry.claimed.size
            call.container = call.container or entry.container
        else:
            call.waiting += entry.claimed.size

    def _failed(self) -> Op[None]:
        failures = yield from failures_in(
            self.client, self.scope, keep=without_details, calls=self.limit
        )
        for failure in failures:
            name = full_name(failure.function, failure.method)
            created = failure.created or failure.at
            call = self._call(failure.call, failure.app, name, created)
            call.last = max(call.last, failure.at)
            call.failed += 1
            call.container = call.container or failure.container
            call.reason = call.reason or failure.reason

    def _kept(self) -> Op[None]:
        kept = self.client.kept_calls
        ids = yield from kept.scan(most=MOST_KEPT, seconds=SCAN_SECONDS)
        records = yield from kept.records([call for call in ids if call not in self.found])
        pools = yield from observed(self.client, {each.pool for each in records.values()})
        for name, record in records.items():
            pool = pools.get(record.pool)
            # A record does not say which method of a class was called.
            if pool is not None and self.scope.has(pool.app, pool.function, ""):
                call = self._call(name, pool.app, pool.function.removesuffix(".*"), record.created)
                self._end(call, record)

    def _complete(self, calls: list[FoundCall]) -> Op[None]:
        """Take in what the records of the calls say, for those that were found elsewhere."""
        missing = [each for each in calls if each.ended is None]
        records = yield from self.client.kept_calls.records([each.call for each in missing])
        for call in missing:
            record = records.get(call.call)
            if record is not None:
                self._end(call, record)

    def _end(self, call: FoundCall, record: CallRecord) -> None:
        call.ended = ended_state(record)
        call.created = call.created or record.created
        if call.ended == "waiting" and not (call.running or call.waiting):
            # Behind more entries than were looked at, or on its way between two of them.
            call.waiting = record.submitted - record.settled

    def _call(self, name: str, app: str, function: str, created: int) -> FoundCall:
        made = FoundCall(call=name, app=app, function=function, created=created)
        return self.found.setdefault(name, made)


def ended_state(record: CallRecord) -> State:
    """How a call has ended by its record, or `waiting`."""
    if record.state == "cancelled":
        return "cancelled"
    return "done" if record.settled >= record.submitted else "waiting"


def failures_in(client: Client, scope: Scope, *, keep: Keep, calls: int) -> Op[list[Failure]]:
    """What `keep` makes of the failures of a scope, newest first: of each function those of so many calls.

    They are those that containers noted, and inputs lost with their containers.
    """
    found: list[Failure] = []
    for app, tag in (yield from client.failures.functions()):
        if scope.has(app, tag):
            found += yield from _noted(client, scope, (app, tag), keep=keep, calls=calls)
    letters = yield from client.dead_letters.recent(since=scope.since, count=PAGE)
    lost = [each for each in letters if each.kind == "failed"]
    pools = yield from observed(client, {each.pool for each in lost if each.pool})
    failures = [each for letter in lost for each in lost_failures(letter, pools)]
    found += _meant(client, scope, failures, keep)
    return sorted(found, key=lambda each: each.at, reverse=True)


def _noted(
    client: Client, scope: Scope, function: tuple[str, str], *, keep: Keep, calls: int
) -> Op[list[Failure]]:
    """Page by page, as a note may have a large traceback and large arguments."""
    found: list[Failure] = []
    before = ""
    while len({each.call for each in found}) < calls:
        page = yield from client.failures.recent(
            *function, since=scope.since, count=PAGE, before=before
        )
        if not page:
            break
        before = page[-1].entry
        found += _meant(client, scope, page, keep)
    return found


def _meant(
    client: Client, scope: Scope, failures: Iterable[Failure], keep: Keep
) -> Iterator[Failure]:
    for failure in failures:
        complete = _completed(client, failure)
        if scope.has(complete.app, complete.function, complete.method):
            wanted = keep(complete)
            if wanted is not None:
                yield wanted


def without_details(failure: Failure) -> Failure:
    """A failure for a list, which may have many of them."""
    return replace(failure, trace="", envelope=b"")


def lost_failures(letter: DeadLetter, pools: Mapping[str, Observation]) -> Iterable[Failure]:
    """A dead letter as a failure of each of its inputs; none if its pool is forgotten."""
    pool, claimed = pools.get(letter.pool), letter.claimed
    if pool is None:
        return
    reason, _ = told("lost", letter.reason.encode())
    for index in range(claimed.first, claimed.first + claimed.size):
        yield Failure(
            app=pool.app,
            function=pool.function,
            pool=letter.pool,
            call=claimed.call,
            index=index,
            kind="lost",
            reason=reason,
            retries=claimed.retries,
            lost=claimed.lost,
            at=letter.at,
            envelope=claimed.envelope,
        )


def _completed(client: Client, failure: Failure) -> Failure:
    """The failure with what its envelope says, where whoever noted it did not open that."""
    if failure.created or not failure.envelope:
        return failure
    try:
        head = opened(client, failure.envelope).head
    except UnreadableError:
        return failure
    return replace(failure, method=head.method, created=head.created)

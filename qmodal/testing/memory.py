"""What eager mode has in place of a server: calls and their outputs, in memory, and operations on them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

from qmodal.client.client import Client
from qmodal.exception import InternalFailure
from qmodal.spec.documents import open_pool_spec
from qmodal.store.calls import Calls, GapError, UnknownPoolError
from qmodal.store.entries import Submission
from qmodal.store.pools import Pools
from qmodal.store.results.items import Items
from qmodal.store.results.outputs import CallRecord, Output
from qmodal.testing.apps import EagerApps
from qmodal.testing.pools import EagerPool, Request
from qmodal.transport.operation import Meanwhile, Op


@dataclass(slots=True)
class KeptCall:
    """One call: its record, its outputs so far, and the inputs of generators that were not read to their end."""

    record: CallRecord
    outputs: list[Output] = field(default_factory=list)
    running: deque[Iterator[Output]] = field(default_factory=deque)

    def behind(self, cursor: bytes) -> list[Output]:
        """The outputs behind a cursor."""
        return self.outputs[int(cursor.partition(b"-")[0]) :]

    def advance(self) -> None:
        """Run the first input that has not ended until it gives something."""
        output = next(self.running[0], None)
        if output is None:
            self.running.popleft()
            return
        self.outputs.append(replace(output, entry=b"%d-0" % (len(self.outputs) + 1)))
        if not output.is_item:
            self.record = replace(self.record, settled=self.record.settled + 1)


class Memory:
    """All calls and pools. The condition is for those that read what another thread submits; it is held only shortly."""

    def __init__(self, apps: EagerApps) -> None:
        self.apps = apps
        self.calls: dict[str, KeptCall] = {}
        self.pools: dict[str, EagerPool] = {}
        self.changed = threading.Condition()

    def accept(self, submission: Submission) -> None:
        """Run the inputs, but for those of generators, which run as they are read."""
        pool = self._pool(submission.pool)
        call = self._begun(submission)
        blobs = dict(submission.blobs)
        is_generator = any(method.is_generator for method in pool.spec.methods.values())
        for index, signed in enumerate(submission.envelopes, submission.first):
            if index < call.record.submitted:
                continue  # submitted before, by somebody with the same key
            request = Request(submission.call, index, signed, blobs.get(index))
            call.running.append(pool.run(request))
            call.record = replace(call.record, submitted=index + 1)
            while call.running and not is_generator:
                call.advance()
            self._notify()
        if submission.total is not None:
            call.record = replace(call.record, total=submission.total)
        self._notify()

    def _pool(self, name: str) -> EagerPool:
        """The pool; UnknownPoolError if there is none, or what it runs was defined again."""
        pool = self.pools.get(name)
        if pool is None:
            raise UnknownPoolError
        spec, found = self.apps.code(pool.pool.app_id, pool.pool.function)
        if found is not pool.found or spec is not pool.spec:
            del self.pools[name]
            pool.close()
            raise UnknownPoolError
        return pool

    def _begun(self, submission: Submission) -> KeptCall:
        record = CallRecord(
            pool=submission.pool,
            state="",
            submitted=0,
            settled=0,
            total=None,
            created=submission.now,
            parent=submission.parent,
            digest=submission.digest,
        )
        call = self.calls.setdefault(submission.call, KeptCall(record))
        if call.record.digest != submission.digest:
            raise InternalFailure("another call has this id")
        if submission.first > call.record.submitted:
            raise GapError("an earlier chunk of this call was refused; start the map again")
        return call

    def read(self, name: str, cursor: bytes, seconds: float) -> list[Output]:
        """Outputs behind the cursor; waits for them as long as another thread may bring some."""
        call = self.calls.get(name)
        if call is None:
            return []
        while call.running and not call.behind(cursor):
            call.advance()
        with self.changed:
            self.changed.wait_for(lambda: self._has_news(call, cursor), seconds)
        return call.behind(cursor)

    def _has_news(self, call: KeptCall, cursor: bytes) -> bool:
        return bool(call.behind(cursor)) or call.record.is_finished

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def close(self) -> None:
        """End generators that nobody has read to their end, and all containers."""
        for call in self.calls.values():
            call.running.clear()
        for pool in self.pools.values():
            pool.close()


@dataclass(frozen=True, slots=True)
class EagerCalls(Calls):
    """Operations on calls in memory; all others need a server."""

    memory: Memory

    def submit(self, submission: Submission, *, meanwhile: Meanwhile | None = None) -> Op[None]:
        """Run the inputs."""
        yield from ()
        self.memory.accept(submission)
        if meanwhile is not None:
            meanwhile()

    def request(
        self,
        submission: Submission,
        *,
        cursor: bytes = b"0",
        block: int = 1000,
        meanwhile: Meanwhile | None = None,
        shared: bool = False,
    ) -> Op[list[Output]]:
        """Run the inputs, and read what came of them."""
        yield from self.submit(submission, meanwhile=meanwhile)
        return (yield from self.read(submission.call, cursor, block=0))

    def read(self, call: str, cursor: bytes, *, block: int, count: int = 100) -> Op[list[Output]]:
        """Outputs behind the cursor."""
        yield from ()
        return self.memory.read(call, cursor, block / 1000)

    def read_several(
        self, cursors: Mapping[str, bytes], *, block: int
    ) -> Op[dict[str, list[Output]]]:
        """Outputs of calls, each behind its cursor."""
        yield from ()
        found = {call: self.memory.read(call, cursor, 0) for call, cursor in cursors.items()}
        return {call: outputs for call, outputs in found.items() if outputs}

    def record(self, call: str) -> Op[CallRecord | None]:
        """The call's record."""
        yield from ()
        kept = self.memory.calls.get(call)
        return None if kept is None else kept.record

    def prolong(self, call: str, ttl: int) -> Op[None]:
        """Nothing expires here."""
        yield from ()

    def cancel(self, call: str, *, spare: bool = False) -> Op[list[tuple[str, str]]]:
        """All inputs have ended already, but for those of generators, which end now."""
        yield from ()
        kept = self.memory.calls.get(call)
        if kept is not None:
            kept.running.clear()
        return []


@dataclass(frozen=True, slots=True)
class EagerItems(Items):
    """Items of generators in memory."""

    memory: Memory

    def take(
        self, call: str, entries: Sequence[bytes], cursor: bytes, *, block: int
    ) -> Op[list[Output]]:
        """The next item."""
        yield from ()
        return self.memory.read(call, cursor, block / 1000)

    def close(self, call: str) -> Op[None]:
        """Nobody reads any more."""
        yield from ()
        self.memory.calls.pop(call, None)


@dataclass(frozen=True, slots=True)
class EagerPools(Pools):
    """Operations on pools in memory."""

    _: KW_ONLY
    memory: Memory
    client: Client

    def open(self, pool: str, *, spec: bytes, app: str, function: str, label: str) -> Op[None]:
        """Make the pool known."""
        yield from ()
        opened = open_pool_spec(spec, self.client.signer)
        code, found = self.memory.apps.code(app, function)
        self.memory.pools.setdefault(pool, EagerPool(self.client, opened, code, found))

    def service_time(self, pool: str) -> Op[float | None]:
        """Nothing is known of it, and nothing depends on it."""
        yield from ()
        return None

"""The pools of eager mode: their containers lie in this process and run one input each, in the caller's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

from qmodal.client.client import Client
from qmodal.exception import UnimplementedError
from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.retries import next_step
from qmodal.spec.variant import options_in_force
from qmodal.store.entries import Claimed
from qmodal.store.pools import NO_START
from qmodal.store.results.outputs import Output
from qmodal.wire.envelope import open_envelope
from qmodal.wire.item import Item
from qmodal.wire.outcome import Outcome, Result
from qmodal.wire.remote_error import explained
from qmodal.wire.signing import mac_of

CONTAINERS = "qmodal.eager"


class Container(Protocol):
    """What runs inputs; the package of workers brings it."""

    def run(self, claimed: Claimed, envelope: Any, payload: bytes) -> Result:
        """The result of an input."""

    def items(
        self, claimed: Claimed, envelope: Any, payload: bytes
    ) -> Generator[Result, None, Result]:
        """The items of an input of a generator, and the result of the input."""

    def close(self) -> None:
        """Run the exit hooks."""


@dataclass(slots=True)
class Request:
    """One input as it was submitted: its envelope, and its payload, wherever that came."""

    call: str
    index: int
    signed: bytes
    blob: bytes | None

    def claimed(self, retries: int) -> Claimed:
        """As a container gets it, after so many retries."""
        counts: list[bytes] = [str(each).encode() for each in (self.index, retries, 0, 1)]
        place, used, lost, size = counts
        fields = (b"e", self.signed, b"c", self.call.encode(), b"i", place)
        return Claimed(1, "1-1", (*fields, b"r", used, b"d", lost, b"n", size))


@dataclass(slots=True)
class EagerPool:
    """One pool. A container that runs an input is nobody else's, so a call within a call gets another one."""

    client: Client
    pool: PoolSpec
    spec: FunctionSpec
    found: Any
    _idle: list[tuple[str, Container]] = field(default_factory=list)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, request: Request) -> Iterator[Output]:
        """What comes of an input: the items of a generator as they are asked for, and last its outcome."""
        try:
            with self._container() as (name, container):
                yield from self._attempts(request, name, container)
        except NoStartError as failed:
            yield Output(b"", request.index, None, f"{NO_START}{failed}")

    def _attempts(self, request: Request, name: str, container: Container) -> Iterator[Output]:
        retries = options_in_force(self.spec, self.pool).retries
        used = 0
        while True:
            started, begin = time.time_ns() // 1_000_000, time.monotonic()
            result = yield from self._attempt(request, container, used)
            took = int((time.monotonic() - begin) * 1e6)
            outcome = Outcome(*result, container=name, started=started, took=took)
            # The delay is left out: nobody else would use the time.
            if next_step(outcome, retries, used) is None:
                break
            used += 1
        signed = outcome.seal(
            self.client.signer,
            call=request.call,
            index=request.index,
            request=mac_of(request.signed),
        )
        yield Output(b"", request.index, signed, None)

    def _attempt(
        self, request: Request, container: Container, used: int
    ) -> Generator[Output, None, Result]:
        envelope = open_envelope(request.signed, self.client.signer)
        payload = envelope.payload if request.blob is None else request.blob
        claimed = request.claimed(used)
        if not self.spec.methods[envelope.head.method].is_generator:
            return container.run(claimed, envelope, payload)
        items, number = container.items(claimed, envelope, payload), 0
        while True:
            try:
                _, form, content = next(items)
            except StopIteration as end:
                result: Result = end.value
                return result
            item = Item(number, claimed.entry, form, content)
            signed = item.seal(
                self.client.signer,
                call=request.call,
                index=request.index,
                request=mac_of(request.signed),
            )
            yield Output(b"", request.index, signed, None, is_item=True)
            number += 1

    @contextmanager
    def _container(self) -> Iterator[tuple[str, Container]]:
        with self._lock:
            used = self._idle.pop() if self._idle else None
            self._count += used is None
            name = f"eager-{self._count}"
        used = used or (name, self._started(name))
        try:
            yield used
        finally:
            self._idle.append(used)

    def _started(self, name: str) -> Container:
        (make,) = (point.load() for point in entry_points(group=CONTAINERS))
        plain_only = self.client.settings.payloads == "plain"
        try:
            made: Container = make(
                self.spec, self.pool, self.found, name=name, plain_only=plain_only
            )
        except UnimplementedError:
            raise
        except Exception as error:
            raise NoStartError(explained(error)) from error
        return made

    def close(self) -> None:
        """End the containers that run nothing."""
        while self._idle:
            _, container = self._idle.pop()
            container.close()


class NoStartError(Exception):
    """The text of what a constructor or an enter hook has raised."""

"""Many inputs of one call: submitted in chunks, at most 1000 outstanding, results as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from qmodal.client import Client
from qmodal.invocation import submit
from qmodal.outputs import OutputReader, resolve
from qmodal.store.exchange import Later, Op
from qmodal.target import Arguments, Target

R = TypeVar("R")
OUTSTANDING = 1000
CHUNK = 100
FindTarget = Callable[[], Op[Target]]


class Fanout(Generic[R]):
    """The state of one map: what was submitted, what arrived, what may be yielded."""

    def __init__(
        self,
        client: Client,
        target: Target,
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        is_delivery: bool = False,
    ) -> None:
        self._client = client
        self._target = target
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._is_delivery = is_delivery
        self._reader = OutputReader(client, target.new_call())
        self._digest = b""
        self._arrived: dict[int, Any] = {}
        self._next = 0
        self.submitted = 0
        self.settled = 0
        self.is_fed = False

    @property
    def call(self) -> str:
        """The id of the call."""
        return self._reader.call

    @property
    def room(self) -> int:
        """Inputs that may be submitted now: bounded also by results that wait for their turn."""
        return OUTSTANDING - (self.submitted - self.settled) - len(self._arrived)

    @property
    def is_done(self) -> bool:
        """Whether every result was taken."""
        return self.is_fed and self.settled == self.submitted and not self._arrived

    def feed(self, chunk: list[Arguments], *, is_last: bool) -> Op[None]:
        """Submit the next inputs."""
        self.is_fed = is_last
        if not chunk and not (is_last and self.submitted):
            return
        end = self.submitted + len(chunk)
        submission = self._target.submission(
            self._client,
            chunk,
            call=self.call,
            first=self.submitted,
            total=end if is_last else None,
            digest=self._digest,
        )
        self._digest = submission.digest
        yield from submit(self._client, self._target, submission)
        self.submitted = end

    def receive(self, block: int) -> Op[None]:
        """Take in results; a failed input is kept as its exception."""
        for output in (yield from self._reader.read(block)):
            try:
                value = yield from resolve(
                    self._client, self.call, output, is_delivery=self._is_delivery
                )
            except BaseException as error:  # also SystemExit, which user code may raise
                value = Failure(error, is_fatal=not self._is_returned(error))
            self._arrived[output.index] = value
            self.settled += 1

    def _is_returned(self, error: BaseException) -> bool:
        return self._return_exceptions and isinstance(error, Exception)

    def ready(self) -> Iterator[Any]:
        """Results whose turn it is; failures first, as a map stops at the first that arrives."""
        for index, value in list(self._arrived.items()):
            if isinstance(value, Failure) and value.is_fatal:
                yield self._arrived.pop(index)
        if not self._ordered:
            while self._arrived:
                yield self._arrived.pop(next(iter(self._arrived)))
        while self._next in self._arrived:
            yield self._arrived.pop(self._next)
            self._next += 1

    def stop(self) -> Op[None]:
        """Nobody wants the rest: cancel what is queued, and forget the call."""
        if self.settled < self.submitted:
            running = yield from self._client.calls.cancel(self.call)
            yield from self._client.calls.nudge_cancelled(running)
        yield Later(self._client.calls.forget_command(self.call))


@dataclass(frozen=True, slots=True)
class Failure:
    """An input's exception on its way to its place among the results; a fatal one ends the map."""

    error: BaseException
    is_fatal: bool

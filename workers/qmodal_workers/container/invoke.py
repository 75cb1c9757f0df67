"""User code to an outcome: whatever it returns or raises becomes a value."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any

from qmodal.exception import (
    DeserializationError,
    Error,
    ExecutionError,
    InputCancellation,
    InputTimeout,
)
from qmodal.store.entries import Claimed
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import Result, text_outcome
from qmodal.wire.payload import dump_value, load_arguments
from qmodal.wire.remote_error import dump_exception
from qmodal_workers.container.generate import refuse_unexpected
from qmodal_workers.container.interrupt import Interrupts
from qmodal_workers.container.loop import UserLoop
from qmodal_workers.container.offspring import end_if_child
from qmodal_workers.record import STOPPED, TIMEOUT

_OWN = str(Path(__file__).parent)
_INTERRUPTIONS = (InputTimeout, InputCancellation, asyncio.CancelledError)
# Neither awaitable nor a generator: nothing to find out about such a value.
ORDINARY = frozenset({NoneType, bool, int, float, str, bytes, list, dict, tuple, set})


Admitted = tuple[Envelope, bytes]
Find = Callable[[Claimed, Envelope], Callable[..., Any]]


class Preempted(BaseException):
    """User code was stopped by KeyboardInterrupt: the input has no outcome and runs elsewhere."""


class Outdated(BaseException):
    """The input needs what a newer version of the code has: it was not run, and runs there."""


@dataclass(frozen=True, slots=True)
class Invoker:
    """Runs one input after another on the thread that also talks to Redis.

    A hop to another thread would cost more than the whole rest of the path, and signals reach
    user code only here. `has_newer_code` is asked about what this version does not know.
    """

    container: str
    plain_only: bool
    timeout: float
    loop: UserLoop
    interrupts: Interrupts
    has_newer_code: Callable[[], bool]

    def invoke(self, find: Find, claimed: Claimed, admitted: Admitted, serial: int) -> Result:
        """What became of one input; raises only Preempted and Outdated."""
        envelope, payload = admitted
        try:
            args, kwargs = load_arguments(envelope.format, payload, plain_only=self.plain_only)
            function = find(claimed, envelope)
        except (DeserializationError, ExecutionError) as error:
            return self.unknown(error)
        try:
            value = self.call(function, args, kwargs, serial)
            form, content = dump_value(value, plain_only=self.plain_only)
        except BaseException as error:
            return self.failure(error)
        end_if_child()
        return "value", form, content

    def unknown(self, error: Error) -> Result:
        """What became of an input that needs what is not in this version of the code."""
        if self.has_newer_code():
            raise Outdated from error
        return self.failure(error)

    def call(
        self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any], serial: int
    ) -> Any:
        """Run user code; whatever it raises, and what an interrupt aimed at `serial` raises in it."""
        interrupts, own = self.interrupts, copy_context()
        try:
            interrupts.listen(serial)
            value = own.run(function, *args, **kwargs)
        finally:
            interrupts.serial = 0
        return value if type(value) in ORDINARY else self.finish(function, value, serial, own)

    def finish(
        self, function: Callable[..., Any], value: Any, serial: int, context: Context
    ) -> Any:
        """What user code has returned, once it is there: an awaitable runs until its end.

        In the same context: what an input sets is there for all of it, and not for the next one.
        """
        try:
            self.interrupts.listen(serial)
            refuse_unexpected(function, value)
            return self.loop.finish(value, context)
        finally:
            self.interrupts.serial = 0

    def failure(self, error: BaseException) -> Result:
        """What became of an input that raised; raises only Preempted."""
        end_if_child(error)
        if isinstance(error, KeyboardInterrupt):
            raise Preempted from error
        if isinstance(error, _INTERRUPTIONS):
            if self.interrupts.why == STOPPED:
                raise Preempted from error
            return self._interrupted()
        return "error", "x", self._dump(error)

    def _interrupted(self) -> Result:
        if self.interrupts.is_preempted and not self.interrupts.why:
            raise Preempted
        if self.interrupts.why == TIMEOUT:
            outcome = text_outcome("timeout", f"the input ran longer than {self.timeout:g} s")
        else:
            outcome = text_outcome("cancelled", "the input was cancelled")
        return outcome.kind, outcome.format, outcome.payload

    def _dump(self, error: BaseException) -> bytes:
        with contextlib.suppress(OSError, ValueError):  # user code closed it
            traceback.print_exception(type(error), error, _of_user(error.__traceback__))
        return dump_exception(error, origin=self.container, plain_only=self.plain_only)


def _of_user(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without our own frames at its start."""
    while frames is not None and frames.tb_next and _OWN in frames.tb_frame.f_code.co_filename:
        frames = frames.tb_next
    return frames


def flush() -> None:
    """What an input printed is on its way before its result is."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        return  # user code closed them, or put something else in their place

"""User code to an outcome: whatever it returns or raises becomes a value."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from qmodal.exception import (
    DeserializationError,
    ExecutionError,
    InputCancellation,
    InputTimeout,
)
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import Kind, Outcome, text_outcome
from qmodal.wire.payload import dump_value, load_arguments
from qmodal.wire.remote_error import dump_exception
from qmodal_workers.container.generate import refuse_unexpected
from qmodal_workers.container.interrupt import Interrupts
from qmodal_workers.container.loop import UserLoop
from qmodal_workers.record import STOPPED, TIMEOUT

_OWN = str(Path(__file__).parent)


class Preempted(BaseException):
    """User code was stopped by KeyboardInterrupt: the input has no outcome and runs elsewhere."""


class Outdated(BaseException):
    """The input needs what a newer version of the code has: it was not run, and runs there."""


class _UnknownError(Exception):
    """What the input needs is not in this version of the code; the cause says what."""


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

    def invoke(
        self,
        function: Callable[[], Callable[..., Any]],
        envelope: Envelope,
        payload: bytes,
        serial: int,
    ) -> Outcome:
        """The outcome of one input; raises only Preempted and Outdated."""
        started = time.time_ns()
        begin = time.perf_counter_ns()
        kind, form, content = self._guarded(function, envelope, payload, serial)
        took = (time.perf_counter_ns() - begin) // 1000
        _flush()
        return Outcome(
            kind=kind,
            format=form,
            payload=content,
            container=self.container,
            started=started // 1_000_000,
            took=took,
        )

    def _guarded(
        self,
        function: Callable[[], Callable[..., Any]],
        envelope: Envelope,
        payload: bytes,
        serial: int,
    ) -> tuple[Kind, str, bytes]:
        try:
            value = self._call(function, envelope, payload, serial)
            form, content = dump_value(value, plain_only=self.plain_only)
        except (InputTimeout, InputCancellation, asyncio.CancelledError) as error:
            if self.interrupts.why == STOPPED:
                raise Preempted from error
            return self._interrupted()
        except KeyboardInterrupt as error:
            raise Preempted from error
        except _UnknownError as unknown:
            if self.has_newer_code():
                raise Outdated from unknown
            return "error", "x", self._dump(unknown.__cause__ or unknown)
        except BaseException as error:
            return "error", "x", self._dump(error)
        return "value", form, content

    def _call(
        self,
        function: Callable[[], Callable[..., Any]],
        envelope: Envelope,
        payload: bytes,
        serial: int,
    ) -> Any:
        try:
            args, kwargs = load_arguments(envelope.format, payload, plain_only=self.plain_only)
            target = function()
        except (DeserializationError, ExecutionError) as error:
            raise _UnknownError from error
        with self.interrupts.listening(serial):
            value = target(*args, **kwargs)
            refuse_unexpected(target, value)
            return self.loop.finish(value)

    def _interrupted(self) -> tuple[Kind, str, bytes]:
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


def _flush() -> None:
    """What an input printed is on its way before its result is."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # user code closed them

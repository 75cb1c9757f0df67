"""Runs user code for one input; whatever it returns or raises becomes a result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from types import NoneType
from typing import Any

from qmodal.exception import (
    DeserializationError,
    Error,
    ExecutionError,
    InputCancellation,
    InputTimeout,
)
from qmodal.store.entries import Claimed
from qmodal.wire.foreign import type_name
from qmodal.wire.outcome import Result, text_outcome
from qmodal.wire.payload import Arguments, dump_value, load_arguments
from qmodal.wire.remote_error import dump_exception, dump_type, note_on, printed
from qmodal_workers.container.process.forked_children import end_if_child
from qmodal_workers.container.process.own_output import show
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.generator import refuse_unexpected
from qmodal_workers.container.run.interrupts import Interruptible
from qmodal_workers.container.run.user_loop import Finisher
from qmodal_workers.ipc.shared_record import STOPPED, TIMEOUT

INTERRUPTIONS = (InputTimeout, InputCancellation, asyncio.CancelledError, KeyboardInterrupt)
# Values that nobody can change, and that no user code is asked about.
IMMUTABLE = frozenset({NoneType, bool, int, float, str, bytes})
# Types that are certainly neither awaitable nor generators.
ORDINARY = frozenset({NoneType, bool, int, float, str, bytes, list, dict, tuple, set})
Find = Callable[[Attempt], Callable[..., Any]]


class Preempted(BaseException):
    """Raised when user code was interrupted without an outcome: the input is given back to run elsewhere."""


class Outdated(BaseException):
    """Raised when an input needs code that only a newer version may have: it was not run, and runs there."""


@dataclass(slots=True)
class Invoker:
    """Runs one input after another on the thread that also talks to Redis.

    A hop to another thread would cost more than the whole rest of the path, and signals reach
    user code only here. `function` is what people call it, `most` the attempts that an input gets, `timeout` in
    seconds. `has_newer_code` is called when an input needs code that this version does not have.
    """

    container: str
    function: str
    most: int
    plain_only: bool
    timeout: float
    loop: Finisher
    interrupts: Interruptible
    has_newer_code: Callable[[], bool]

    def of(self, interrupts: Interruptible, loop: Finisher) -> Invoker:
        """The same for an input with interrupts of its own, one of several at once."""
        return Invoker(
            self.container,
            self.function,
            self.most,
            self.plain_only,
            self.timeout,
            loop,
            interrupts,
            self.has_newer_code,
        )

    def invoke(self, attempt: Attempt, find: Find) -> Result:
        """Run one input and return its result; raises only Preempted and Outdated."""
        try:
            args, kwargs = self.rebuilt(attempt)
            function = find(attempt)
        except (DeserializationError, ExecutionError) as error:
            return self.unknown(error, attempt.claimed)
        except INTERRUPTIONS as error:
            return self.failure(error, attempt.claimed)
        try:
            value = self.call(function, args, kwargs)
            form, content = self.dumped(value)
        except BaseException as error:
            return self.failure(error, attempt.claimed)
        end_if_child()
        return "value", form, content

    def rebuilt(self, attempt: Attempt) -> Arguments:
        """The arguments; user code may run when they are pickled, and may be interrupted."""
        form = attempt.envelope.format
        if form == "m":
            return load_arguments("m", attempt.payload, plain_only=self.plain_only)
        try:
            self.interrupts.listen()
            loaded = load_arguments(form, attempt.payload, plain_only=self.plain_only)
        finally:
            self.interrupts.slot.is_open = False
        end_if_child()
        return loaded

    def dumped(self, value: Any) -> tuple[str, bytes]:
        """A result as bytes; user code may run when it has to be pickled, and may be interrupted."""
        if type(value) in IMMUTABLE:
            return dump_value(value, plain_only=self.plain_only)
        try:
            self.interrupts.listen_on()
            dumped = dump_value(value, plain_only=self.plain_only)
        except Exception as error:
            note_on(
                error, f"The result of {self.function}, of type {type_name(value)}, cannot be sent."
            )
            raise
        finally:
            self.interrupts.slot.is_open = False
        end_if_child()
        return dumped

    def unknown(self, error: Error, claimed: Claimed | None = None) -> Result:
        """The failure of an input whose code this version does not have; Outdated if a newer one may."""
        if self.has_newer_code():
            raise Outdated from error
        return self.failure(error, claimed)

    def call(self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """Run user code in a context of its own; raises what it raises, or what an interrupt raises in it."""
        interrupts, own = self.interrupts, copy_context()
        try:
            interrupts.listen()
            value = own.run(function, *args, **kwargs)
        finally:
            interrupts.slot.is_open = False
        return value if type(value) in ORDINARY else self.finish(function, value, own)

    def finish(self, function: Callable[..., Any], value: Any, context: Context) -> Any:
        """The value that user code has returned or, of an awaitable, what it resolves to.

        In the same context, so that an input sees the variables that it has set, and the next one does
        not.
        """
        try:
            self.interrupts.listen()
            refuse_unexpected(function, value)
            return self.loop.finish(value, context)
        finally:
            self.interrupts.slot.is_open = False

    def failure(self, error: BaseException, claimed: Claimed | None = None) -> Result:
        """The result of an input that raised this error; raises only Preempted. `claimed` says in which attempt.

        An error that only looks like an interruption, such as the CancelledError of a task that user code
        has cancelled, is a failure like others. An InputCancellation of user code cancels its own input.
        """
        end_if_child(error)
        # By its type: `isinstance` would also ask a property `__class__`, which is user code.
        kind = type(error)
        if issubclass(kind, KeyboardInterrupt):
            raise Preempted from error
        is_aimed = self.interrupts.is_aimed and issubclass(kind, INTERRUPTIONS)
        if is_aimed or issubclass(kind, InputCancellation):
            if self.interrupts.slot.why == STOPPED:
                raise Preempted from error
            return self._interrupted(claimed)
        return self._dumped_error(error, claimed)

    def _dumped_error(self, error: BaseException, claimed: Claimed | None) -> Result:
        """The error as a result, also printed; it may run user code for that, which may be interrupted."""
        about = self._about(claimed)
        try:
            self.interrupts.listen_on()
            content = self._dump(error, about)
            end_if_child()
        except INTERRUPTIONS as interruption:
            self.interrupts.slot.is_open = False
            if self.interrupts.is_aimed:
                return self.failure(interruption, claimed)
            content = dump_type(error, origin=self.container, about=about)
        except BaseException:  # raised by a signal handler that user code has left behind
            content = dump_type(error, origin=self.container, about=about)
        finally:
            self.interrupts.slot.is_open = False
        return "error", "x", content

    def _interrupted(self, claimed: Claimed | None) -> Result:
        if self.interrupts.is_preempted and not self.interrupts.slot.why:
            raise Preempted
        if self.interrupts.slot.why == TIMEOUT:
            text = f"{self._about(claimed)} ran longer than {self.timeout:g} s"
            outcome = text_outcome("timeout", text)
        else:
            outcome = text_outcome("cancelled", f"{self.function} was cancelled")
        return outcome.kind, outcome.format, outcome.payload

    def _about(self, claimed: Claimed | None) -> str:
        """What ran: the function, and the attempt, if there may be several."""
        if claimed is None or self.most == 1:
            return self.function
        return f"{self.function}, attempt {claimed.retries + 1} of {self.most}"

    def _dump(self, error: BaseException, about: str) -> bytes:
        heading = f"{about}:\n" if about != self.function else ""
        show(f"{heading}{printed(error)}")
        return dump_exception(error, origin=self.container, plain_only=self.plain_only, about=about)

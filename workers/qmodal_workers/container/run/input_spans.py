"""Spans of what a container does with an input: it was queued, it is run, and its outcome is settled."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from qmodal.store.entries import Settled
from qmodal.telemetry.tracing import context_of, fail, is_on, tracer
from qmodal.wire.ids import input_id
from qmodal.wire.outcome import Result, told
from qmodal_workers.container.run.attempt import Attempt

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span

# Of outcomes that are never written: the server has lost its data.
_MOST_UNSETTLED = 10_000


class _Unsettled(NamedTuple):
    """An input that has ended and is not settled: the context of its run, since when, and what about it is said."""

    context: Context
    ended: int
    about: Mapping[str, Any]


class RunSpan:
    """The span of one call of user code, current in its block; this one stands for none at all."""

    def __enter__(self) -> RunSpan:
        return self

    def __exit__(self, *_raised: object) -> None:
        """User code does not run any more."""

    def took(self, results: Iterable[Result]) -> None:
        """Within the block: the results of the inputs, in their order."""


NO_SPAN = RunSpan()


@dataclass(slots=True)
class InputSpans:
    """Makes the spans of one container, if its user code has set a tracer provider.

    Nothing that a part of the program's OpenTelemetry raises ends an input.
    """

    app: str = ""
    function: str = ""
    version: int = 0
    container: str = ""
    is_web: bool = False
    _has_run: bool = False
    # By call and index of the (first) input; the thread that settles takes out.
    _unsettled: dict[tuple[str, int], _Unsettled] = field(default_factory=dict)

    def begin(self, attempts: Sequence[Attempt], size: int = 1) -> RunSpan:
        """The span of a run that begins now, of these attempts, or of an entry of `size` inputs."""
        if not is_on():
            return NO_SPAN
        with suppress(Exception):
            return _Run(self, attempts, size)
        return NO_SPAN

    def about(self, attempt: Attempt) -> dict[str, Any]:
        """What each span says of its input; names are those of OpenTelemetry where it has them."""
        head, claimed = attempt.envelope.head, attempt.claimed
        return {
            "messaging.system": "qmodal",
            "messaging.destination.name": head.pool,
            "messaging.message.id": input_id(head.call, claimed.first),
            "messaging.message.conversation_id": head.call,
            "qmodal.function": self.name_of(attempt),
            "qmodal.attempt": claimed.retries + claimed.lost + 1,
        }

    def name_of(self, attempt: Attempt) -> str:
        """What people call the function, or the method of the class."""
        method = attempt.envelope.head.method
        return f"{self.function.removesuffix('.*')}.{method}" if method else self.function

    def about_run(self, attempt: Attempt, size: int) -> dict[str, Any]:
        """What the span of a run says beside that."""
        is_cold, self._has_run = not self._has_run, True
        head, name = attempt.envelope.head, self.name_of(attempt)
        input_name = input_id(head.call, attempt.claimed.first)
        more: dict[str, Any] = {
            "messaging.operation.type": "process",
            "messaging.operation.name": "run",
            "faas.name": name,
            "faas.version": str(self.version),
            "faas.instance": self.container,
            "faas.invocation_id": input_name,
            "faas.trigger": "http" if self.is_web else "pubsub",
            "faas.coldstart": is_cold,
            "qmodal.app": self.app,
            "qmodal.pool": head.pool,
            "qmodal.call": head.call,
            "qmodal.input": input_name,
            "qmodal.container": self.container,
        }
        if size > 1:
            more["messaging.batch.message_count"] = size
        return self.about(attempt) | more

    def expect(self, attempt: Attempt, context: Context, ended: int) -> None:
        """The input has ended then, in that context; the span of its settling ends when that is written."""
        if len(self._unsettled) >= _MOST_UNSETTLED:
            self._unsettled.clear()
        key = attempt.envelope.head.call, attempt.claimed.first
        self._unsettled[key] = _Unsettled(context, ended, self.about(attempt))

    def settled(self, written: Sequence[Settled]) -> None:
        """These are written; by any thread."""
        if not self._unsettled:  # as a rule nobody traces
            return
        for each in written:
            for index in range(each.index, each.index + each.count):
                self.over(each.call, index)

    def over(self, call: str, index: int) -> None:
        """What became of that input is written: its outcome, or that it is retried."""
        unsettled = self._unsettled.pop((call, index), None)
        if unsettled is None:
            return
        context, ended, about = unsettled
        more = {"messaging.operation.type": "settle", "messaging.operation.name": "settle"}
        with suppress(Exception):
            name = f"settle {about['qmodal.function']}"
            span = tracer().start_span(
                name, context, attributes={**about, **more}, start_time=ended
            )
            span.end()


class _Run(RunSpan):
    def __init__(self, spans: InputSpans, attempts: Sequence[Attempt], size: int) -> None:
        from opentelemetry.trace import SpanKind

        self._spans = spans
        self._attempts = attempts
        first = attempts[0]
        now = time.time_ns()
        parents = [context_of(each.envelope.head.trace) for each in attempts]
        for attempt, parent in zip(attempts, parents, strict=True):
            self._queued(attempt, parent, now)
        self._span: Span = tracer().start_span(
            f"run {spans.name_of(first)}",
            parents[0],
            kind=SpanKind.SERVER if spans.is_web else SpanKind.CONSUMER,
            attributes=spans.about_run(first, max(size, len(attempts))),
            links=_links(parents[1:]),
            start_time=now,
        )
        # Of what is settled: the run, but each other caller of a batch finds it in a trace of its own.
        self._parents = [None, *parents[1:]]
        self._has_ended = False

    def _queued(self, attempt: Attempt, parent: Context, now: int) -> None:
        """The span of its waiting; there is none for an input that no span has submitted: it would be alone."""
        if not parent:
            return
        claimed = attempt.claimed
        began = attempt.envelope.head.created
        if claimed.lane == 2:  # put in line again since
            began = max(began, int(claimed.entry.partition("-")[0]))
        more = {"messaging.operation.type": "receive", "messaging.operation.name": "queue"}
        span = tracer().start_span(
            f"queue {self._spans.name_of(attempt)}",
            parent,
            attributes=self._spans.about(attempt) | more,
            start_time=min(began * 1_000_000, now),  # the caller's clock may be ahead
        )
        span.end(now)

    def __enter__(self) -> RunSpan:
        from opentelemetry.context import attach
        from opentelemetry.trace import set_span_in_context

        self._context = set_span_in_context(self._span)
        self._token = attach(self._context)
        return self

    def took(self, results: Iterable[Result]) -> None:
        """The results of the inputs, in their order."""
        self._has_ended = True
        with suppress(Exception):
            failed = [each for each in results if each[0] != "value"]
            for kind, _, content in failed[:1]:
                reason, stacktrace = told(kind, content)
                error = reason.partition(":")[0] if kind == "error" else kind
                fail(self._span, error, reason, stacktrace)
            if failed and len(self._attempts) > 1:
                self._span.set_attribute("qmodal.failed_inputs", len(failed))

    def __exit__(self, *_raised: object) -> None:
        from opentelemetry.context import detach

        with suppress(Exception):
            detach(self._token)
        ended = time.time_ns()
        with suppress(Exception):
            if self._has_ended:
                for attempt, parent in zip(self._attempts, self._parents, strict=True):
                    self._spans.expect(attempt, parent or self._context, ended)
            else:
                self._span.set_attribute("qmodal.interrupted", True)
            self._span.end(ended)


def _links(contexts: Sequence[Context]) -> list[Link]:
    """To the spans of the other callers of a batch."""
    from opentelemetry.trace import Link, get_current_span

    return [Link(get_current_span(each).get_span_context()) for each in contexts if each]

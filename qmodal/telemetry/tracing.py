"""Traces: spans of OpenTelemetry for what a caller submits, and the context of one span as text that travels.

The program brings the SDK. Where it has set no tracer provider, there is one question for each submission and nothing
else: nothing of OpenTelemetry is imported here, as whoever set a provider has done that. What comes from elsewhere is
data: it says which trace a span belongs to, and nothing depends on it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

SCOPE = "qmodal"
# The longest `tracestate` that has to be passed on; a longer one is dropped.
STATE_BYTES = 512
_API = "opentelemetry.trace"
_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[ -~]+")
_modules = sys.modules
# To make one takes as long as a span does.
_tracers: WeakKeyDictionary[TracerProvider, Tracer] = WeakKeyDictionary()


def is_on() -> bool:
    """Whether the program has set a tracer provider.

    Others (redis-py is one) import the API by themselves, and its own function takes ten times as long as this.
    """
    api = _modules.get(_API)
    return api is not None and getattr(api, "_TRACER_PROVIDER", api) is not None


def tracer() -> Tracer:
    """The tracer of the program's provider; only where tracing `is_on`."""
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    found = _tracers.get(provider)
    if found is None:
        found = _tracers[provider] = provider.get_tracer(SCOPE)
    return found


def trace_of(parent: str, state: str = "") -> str | None:
    """The text that travels, of a `traceparent` and a `tracestate`; None if the former is none."""
    if _PARENT.fullmatch(parent) is None:
        return None
    if not state or len(state) > STATE_BYTES or _STATE.fullmatch(state) is None:
        return parent
    return f"{parent} {state}"


def carried(span: Span) -> str | None:
    """The text that travels, of a span; None for one without a trace."""
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return trace_of(carrier.get("traceparent", ""), carrier.get("tracestate", ""))


def context_of(trace: str | None) -> Context:
    """The context that a text says, to be the parent of spans; an empty one if it says none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent, _, state = (trace or "").partition(" ")
    carrier = {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def fail(span: Span, kind: str, reason: str, stacktrace: str = "") -> None:
    """The span has ended in an error, of that kind and for that reason."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, reason))
    if stacktrace:
        about = {
            "exception.type": kind,
            "exception.message": reason,
            "exception.stacktrace": stacktrace,
        }
        span.add_event("exception", about)


class Submitting:
    """The span of a submission, from now to `end` or the end of its block; `trace` goes into the envelopes.

    This one stands for no span at all: that of a program without a tracer provider.
    """

    trace: str | None = None

    def __enter__(self) -> Submitting:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> None:
        self.end(error)

    def end(self, error: BaseException | None = None, inputs: int | None = None) -> None:
        """It has ended, in this error if one is given; `inputs`: how many were submitted, if not one. Once is enough."""


class _Span(Submitting):
    def __init__(self, name: str, attributes: Mapping[str, Any]) -> None:
        from opentelemetry.trace import SpanKind

        self._span = tracer().start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)
        self.trace = carried(self._span)

    def end(self, error: BaseException | None = None, inputs: int | None = None) -> None:
        """It has ended."""
        if not self._span.is_recording():  # it was not sampled, or has ended
            return
        kind = type(error)
        with suppress(
            Exception
        ):  # what a processor of the program's raises, or an error's own `__str__`
            if inputs is not None:
                self._span.set_attribute("messaging.batch.message_count", inputs)
            if error is not None and kind is not GeneratorExit:
                fail(self._span, kind.__qualname__, f"{kind.__qualname__}: {error}")
        with suppress(Exception):
            self._span.end()


_OFF = Submitting()


def submitting(function: str, pool: str, call: str) -> Submitting:
    """A span that begins now, for a submission of that call: a child of the caller's current one."""
    if not is_on():
        return _OFF
    with suppress(Exception):  # a sampler or processor of the program's fails no call
        attributes = {
            "messaging.system": "qmodal",
            "messaging.operation.type": "send",
            "messaging.operation.name": "submit",
            "messaging.destination.name": pool,
            "messaging.message.conversation_id": call,
            "faas.invoked_name": function,
            "qmodal.function": function,
            "qmodal.pool": pool,
            "qmodal.call": call,
        }
        return _Span(f"submit {function}", attributes)
    return _OFF

"""An app whose containers write their spans to files; run by tests/integration/functions/test_tracing.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import qmodal

app = qmodal.App("traced")
FOLDER = "TRACED_FOLDER"


class FileExporter(SpanExporter):
    """Appends each span to a file of the process."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write them."""
        with (Path(os.environ[FOLDER]) / f"{os.getpid()}.jsonl").open("a") as file:
            for span in spans:
                file.write(span.to_json(indent=None) + "\n")
        return SpanExportResult.SUCCESS


if not qmodal.is_local() and FOLDER in os.environ:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
    trace.set_tracer_provider(provider)


@app.function()
def square(x: int) -> int:
    with trace.get_tracer("user").start_as_current_span("of the user"):
        return x * x


@app.function()
def above(x: int) -> int:
    return square.remote(x) + 1


@app.function(retries=qmodal.Retries(max_retries=1, initial_delay=0.0))
def fails(x: int) -> int:
    raise ValueError(f"not {x}")


@app.function()
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=10)
async def together(x: int) -> str:
    await asyncio.sleep(0.01)
    with trace.get_tracer("user").start_as_current_span("of the user") as span:
        await asyncio.sleep(0.01)
        return format(span.get_span_context().trace_id, "#034x")


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=10)
def in_threads(x: int) -> str:
    span = trace.get_current_span()
    return format(span.get_span_context().trace_id, "#034x")


@app.function(max_containers=1)
@qmodal.batched(max_batch_size=2, wait_ms=2000)
def batch(xs: list[int]) -> list[int]:
    return [x + 1 for x in xs]


@app.function()
@qmodal.fastapi_endpoint()
def web() -> str:
    span = trace.get_current_span()
    return format(span.get_span_context().trace_id, "#034x")

"""Spans of calls, from the caller to the container that settles them, with the SDK of OpenTelemetry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from qmodal.client.client import current
from qmodal.telemetry import tracing
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "boxes" / "traced.py"
Span = dict[str, Any]


class Traces:
    """The program's handles, and the spans of the caller and of all containers."""

    def __init__(self, user: Any, folder: Path, exporter: InMemorySpanExporter) -> None:
        self.user = user
        self._folder = folder
        self._exporter = exporter

    def own(self) -> list[Span]:
        """Those of this process."""
        return [json.loads(each.to_json()) for each in self._exporter.get_finished_spans()]

    def all(self) -> list[Span]:
        """Those of containers, too."""
        written = [file.read_text() for file in self._folder.glob("*.jsonl")]
        # The last line may be half written.
        lines = [line for text in written for line in text.splitlines(keepends=True)]
        return self.own() + [json.loads(line) for line in lines if line.endswith("\n")]

    def of(self, trace_id: str, name: str, number: int = 1) -> list[Span]:
        """Those of that name in a trace, once there are so many."""

        def found() -> list[Span] | None:
            spans = [
                each
                for each in self.all()
                if each["context"]["trace_id"] == trace_id and each["name"] == name
            ]
            return spans if len(spans) >= number else None

        spans = wait_until(found, what=f"{number} spans {name!r}", seconds=30)
        assert spans is not None
        return sorted(spans, key=lambda span: str(span["start_time"]))

    def submitted(self, name: str) -> Span:
        """The last span of this process with that name."""
        return [each for each in self.own() if each["name"] == name][-1]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """The running program, and where its containers write; one stack for all tests of this module."""
    folder = tmp_path_factory.mktemp("spans")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACED_FOLDER", str(folder))
        with running_program(PROGRAM, tmp_path_factory) as module:
            yield module, folder


@pytest.fixture
def traces(stack: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> Traces:
    """With a provider in this process, which a program can set only once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return Traces(*stack, exporter)


def ids(span: Span) -> tuple[str, str]:
    return span["context"]["trace_id"], span["context"]["span_id"]


def has_in_order(submit: Span, queue: Span, run: Span, settle: Span) -> None:
    """The four are one trace, each begins where the one before has ended."""
    _, submitter = ids(submit)
    assert (queue["parent_id"], run["parent_id"]) == (submitter, submitter)
    assert settle["parent_id"] == run["context"]["span_id"]
    assert queue["end_time"] == run["start_time"] <= run["end_time"] <= settle["start_time"]
    assert settle["start_time"] <= settle["end_time"]


def test_submit_queue_run_and_settle_are_one_trace(traces: Traces) -> None:
    assert traces.user.square.remote(3) == 9
    submit = traces.submitted("submit square")
    trace_id, _ = ids(submit)
    names = ("queue square", "run square", "settle square")
    queue, run, settle = (traces.of(trace_id, name)[0] for name in names)
    has_in_order(submit, queue, run, settle)
    [inner] = traces.of(trace_id, "of the user")
    assert inner["parent_id"] == run["context"]["span_id"]
    assert (submit["kind"], run["kind"]) == ("SpanKind.PRODUCER", "SpanKind.CONSUMER")
    about = run["attributes"]
    assert about["qmodal.call"] == submit["attributes"]["qmodal.call"]
    assert about["faas.invocation_id"] == about["messaging.message.id"] == about["qmodal.input"]
    assert about["qmodal.attempt"] == 1
    assert about["faas.instance"].startswith("ta-")
    assert submit["status"]["status_code"] == run["status"]["status_code"] == "UNSET"


def test_the_caller_s_current_span_is_the_parent_and_a_call_in_user_code_goes_on(
    traces: Traces,
) -> None:
    with trace.get_tracer("test").start_as_current_span("outer") as outer:
        assert traces.user.above.remote(3) == 10
        assert asyncio.run(traces.user.above.remote.aio(3)) == 10
    trace_id = format(outer.get_span_context().trace_id, "#034x")
    runs = traces.of(trace_id, "run above", 2)
    submits = traces.of(trace_id, "submit square", 2)
    assert {each["parent_id"] for each in submits} == {ids(run)[1] for run in runs}
    assert len(traces.of(trace_id, "run square", 2)) == 2


def test_an_error_is_the_status_of_every_attempt_and_of_the_caller(traces: Traces) -> None:
    with pytest.raises(ValueError, match="not 3"):
        traces.user.fails.remote(3)
    submit = traces.submitted("submit fails")
    trace_id, _ = ids(submit)
    runs = traces.of(trace_id, "run fails", 2)
    traces.of(trace_id, "settle fails", 2)
    assert [run["attributes"]["qmodal.attempt"] for run in runs] == [1, 2]
    for span in (submit, *runs):
        assert span["status"] == {"status_code": "ERROR", "description": "ValueError: not 3"}
        assert span["attributes"]["error.type"] == "ValueError"
    [event] = runs[0]["events"]
    assert "raise ValueError" in event["attributes"]["exception.stacktrace"]


def spawned(user: Any) -> None:
    user.square.spawn(3).get(timeout=30)


def generated(user: Any) -> None:
    assert [*user.count.remote_gen(3)] == [0, 1, 2]


def mapped(user: Any) -> None:
    assert [*user.square.map(range(300))] == [x * x for x in range(300)]


def spawned_map(user: Any) -> None:
    assert user.square.spawn_map([1, 2]).num_inputs() == 2


@pytest.mark.parametrize(
    ("make", "name"),
    [(spawned, "square"), (generated, "count"), (mapped, "square"), (spawned_map, "square")],
)
def test_each_way_to_call_has_one_span_of_the_caller(
    traces: Traces, make: Callable[[Any], None], name: str
) -> None:
    make(traces.user)
    [submit] = traces.own()
    assert submit["name"] == f"submit {name}"
    trace_id, span_id = ids(submit)
    runs = traces.of(trace_id, f"run {name}")
    assert {run["parent_id"] for run in runs} == {span_id}
    traces.of(trace_id, f"settle {name}")


def test_a_map_says_how_many_inputs_it_has_and_each_has_run(traces: Traces) -> None:
    mapped(traces.user)
    [submit] = traces.own()
    assert submit["attributes"]["messaging.batch.message_count"] == 300

    def ran() -> bool:
        runs = traces.of(ids(submit)[0], "run square")
        counts = [int(run["attributes"].get("messaging.batch.message_count", 1)) for run in runs]
        return sum(counts) == 300

    wait_until(ran, what="300 inputs in spans", seconds=30)


@pytest.mark.parametrize("name", ["together", "in_threads"])
def test_inputs_that_run_at_once_have_a_current_span_each(traces: Traces, name: str) -> None:
    function = getattr(traces.user, name)
    calls = [function.spawn(n) for n in range(5)]
    seen = [call.get(timeout=30) for call in calls]
    expected = [ids(each)[0] for each in traces.own()]
    assert seen == expected
    for trace_id in expected:
        traces.of(trace_id, f"settle {name}")


def test_the_run_of_a_batch_links_to_the_other_callers(traces: Traces) -> None:
    calls = [traces.user.batch.spawn(n) for n in (1, 2)]
    assert sorted(call.get(timeout=30) for call in calls) == [2, 3]
    known = {ids(each)[0]: ids(each)[1] for each in traces.own()}
    for trace_id in known:
        traces.of(trace_id, "settle batch")
    [run] = [
        each
        for each in traces.all()
        if each["name"] == "run batch" and each["context"]["trace_id"] in known
    ]
    [link] = run["links"]
    assert {run["context"]["trace_id"], link["context"]["trace_id"]} == set(known)
    assert link["context"]["span_id"] == known[link["context"]["trace_id"]]


def test_without_a_provider_nothing_is_recorded_and_nothing_is_in_the_envelope(
    stack: tuple[Any, Path],
) -> None:
    user, _ = stack
    assert not tracing.is_on()
    assert user.square.remote(4) == 16
    target = current().run(user.square._target())
    assert tracing.submitting(target.name, target.pool, "fc-x").trace is None


def test_a_caller_that_is_not_sampled_has_nothing_sampled(
    traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(sampler=ALWAYS_OFF))
    with trace.get_tracer("test").start_as_current_span("outer") as outer:
        assert traces.user.square.remote(5) == 25
        trace_id = format(outer.get_span_context().trace_id, "#034x")
    assert traces.user.square.remote(6) == 36  # what came before is settled
    assert not [each for each in traces.all() if each["context"]["trace_id"] == trace_id]


def test_a_request_continues_the_trace_that_its_header_names(traces: Traces) -> None:
    trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    url = traces.user.web.get_web_url()
    headers = {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "vendor=x"}
    answer = httpx.get(url, headers=headers, timeout=60)
    assert answer.json() == f"0x{trace_id}"
    [run] = traces.of(f"0x{trace_id}", "run web")
    assert run["parent_id"] == f"0x{span_id}"
    assert "vendor" in run["context"]["trace_state"]
    assert (run["kind"], run["attributes"]["faas.trigger"]) == ("SpanKind.SERVER", "http")
    wrong = httpx.get(url, headers={"traceparent": "00-xyz"}, timeout=60)
    assert wrong.status_code == 200
    assert wrong.json() != f"0x{trace_id}"

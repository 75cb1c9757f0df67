"""The table of events and those who emit them: the same events, and the same fields."""

from __future__ import annotations

import ast
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmodal.store.fleet import ContainerReport
from qmodal.telemetry import events
from qmodal.telemetry.events import TABLE, Event, emit
from qmodal.telemetry.log_lines import JsonLines
from qmodal_workers.agent.containers import Container

ROOT = Path(__file__).parents[3]
PACKAGES = ("qmodal", "workers/qmodal_workers", "autoscaler/qmodal_autoscaler")
# What `**container.about` stands for.
ABOUT = frozenset({"container", "worker", "app", "function", "pool"})
SPREAD = {
    "container.about": ABOUT,
    "about": ABOUT,
    "about_input": ABOUT | {"call", "input", "attempt"},
}
REPORT = ContainerReport(
    container="ta-abc-1",
    pool="p",
    app="ap-1",
    function="f",
    label="f",
    number=1,
    state="ready",
    since=1,
)


def events_by_constant() -> dict[str, Event]:
    return {name: each for name, each in vars(events).items() if isinstance(each, Event)}


def emitted() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Where, which constant, and with which fields."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "emit":
                    yield str(path.relative_to(ROOT)), *_used(node)


def _used(call: ast.Call) -> tuple[str, frozenset[str]]:
    named = {each.arg for each in call.keywords if each.arg is not None}
    spread = [
        ast.unparse(each.value).partition("(")[0] for each in call.keywords if each.arg is None
    ]
    about = frozenset[str]().union(*(SPREAD[each] for each in spread))
    return ast.unparse(call.args[0]), frozenset(map(str, named)) | about


def test_each_event_is_emitted_with_exactly_its_fields() -> None:
    known, uses = events_by_constant(), list(emitted())
    assert {constant for _, constant, _ in uses} == known.keys()
    wrong = [(where, name, fields) for where, name, fields in uses if fields != known[name].fields]
    assert wrong == []


def test_each_event_has_a_name_of_its_own_and_a_meaning() -> None:
    assert len(TABLE) == len(events_by_constant())
    for name, each in TABLE.items():
        assert name.partition(".")[1] == ".", name
        assert each.meaning.endswith("."), name


def test_a_container_names_the_ids_that_its_events_have() -> None:
    assert Container(report=REPORT).about.keys() == ABOUT


def test_long_lived_processes_log_by_events() -> None:
    """Only what is shared with callers, or for debugging, is a plain line."""
    rooms = ("workers/qmodal_workers/agent", "autoscaler/qmodal_autoscaler", "qmodal/services")
    found = [
        f"{path.name}: {ast.unparse(node)}"
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
    ]
    assert [each for each in found if ".debug(" not in each and "log.add(" not in each] == []


def test_an_event_is_a_line_for_people_or_json_with_its_ids(
    caplog: pytest.LogCaptureFixture,
) -> None:
    container = Container(report=REPORT)
    with caplog.at_level(logging.INFO):
        emit(events.CONTAINER_ENDED, state="ended", reason="why", how="killed", **container.about)
        logging.getLogger("qmodal").warning("something %s", "else")
        try:
            raise ValueError("no luck")
        except ValueError as error:
            emit(events.CONTAINER_UNCONCLUDED, error, **container.about)
    ended, other, defect = caplog.records
    assert ended.getMessage() == "ta-abc-1 ended: why"
    line = json.loads(JsonLines().format(ended))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "container.ended",
        "message": "ta-abc-1 ended: why",
        "state": "ended",
        "reason": "why",
        "how": "killed",
        **container.about,
    }
    plain = json.loads(JsonLines().format(other))
    assert (plain["logger"], plain["message"]) == ("qmodal", "something else")
    text = JsonLines().format(defect)
    assert "\n" not in text
    assert "ValueError: no luck" in json.loads(text)["traceback"]


def test_an_event_that_nobody_listens_to_is_not_even_put_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Untouchable:
        def __format__(self, _spec: str) -> str:
            raise AssertionError

    with caplog.at_level(logging.ERROR):
        emit(events.BOX_LOST, worker=Untouchable())
    assert caplog.records == []


def test_events_cost_an_import_of_nothing_large() -> None:
    assert "json" not in vars(sys.modules["qmodal.telemetry.events"])

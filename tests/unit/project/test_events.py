"""The table of events and those who emit them: the same events, and the same fields."""

from __future__ import annotations

import ast
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmodal.services.gateway import access_log
from qmodal.store.fleet import ContainerReport
from qmodal.telemetry import events
from qmodal.telemetry.events import TABLE, Event, emit
from qmodal.telemetry.log_lines import LINE, JsonLines
from qmodal.telemetry.prepared_lines import prepared_line
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
    # Written without a record of logging, as it happens so often.
    yield "access_log.py", "GATEWAY_REQUEST", frozenset(access_log.FIELDS)


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


VALUES = {"count": 2, "seconds": 1.25, "delay": 0.5, "containers": 4, "status": 200, "bytes": 7}


@pytest.mark.parametrize("event", TABLE.values(), ids=TABLE)
def test_a_prepared_line_is_what_emit_leads_to(
    event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    names = sorted(event.fields)
    values = tuple(VALUES.get(name, f"{name} 100%") for name in names)
    with caplog.at_level(event.level, event.log.name):
        emit(event, **dict(zip(names, values, strict=True)))
    (record,) = caplog.records
    text = logging.Formatter(LINE).format(record)
    made = prepared_line(event, names)(values)
    assert (made[-1], made[:10], made[19:20]) == ("\n", text[:10], ",")
    assert made[23:-1] == text[23:]
    line, expected = (
        json.loads(each)
        for each in (prepared_line(event, names, as_json=True)(values), JsonLines().format(record))
    )
    assert len(line.pop("time")) == len(expected.pop("time"))
    assert line == expected


def test_a_prepared_line_stays_one_line_whatever_is_in_it() -> None:
    event, odd = events.GATEWAY_WAITS, 'a\n\x1b[31m"\u2028é%s{x}'
    line = prepared_line(event, ["reason"])((odd,))
    assert line.endswith(' WARNING a\\n\\x1b[31m"\\u2028\\xe9%s{x}\n')
    assert prepared_line(event, ["reason"])((None,)).endswith(" WARNING -\n")
    text = prepared_line(event, ["reason"], as_json=True)((odd,))
    assert (text.count("\n"), json.loads(text)["reason"]) == (1, odd)
    assert json.loads(prepared_line(event, ["reason"], as_json=True)((None,)))["reason"] is None


@pytest.mark.parametrize("names", [[], ["other"], ["reason", "reason"], ["reason", "other"]])
def test_a_line_with_other_fields_than_its_event_is_not_prepared(names: list[str]) -> None:
    with pytest.raises(TypeError, match=r"gateway.waits has the fields \['reason'\]"):
        prepared_line(events.GATEWAY_WAITS, names)


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

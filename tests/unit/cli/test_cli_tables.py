"""Lists: aligned text, JSON, and how numbers are written; what is shown of an app's output."""

from __future__ import annotations

import io
import json
import sys

import click
import pytest

from qmodal.cli.commands import app, fleet
from qmodal.cli.commands.app import first_urls
from qmodal.cli.commands.finding import call, dead, pool
from qmodal.cli.commands.services import boxes, control, schedule
from qmodal.cli.tables import Columns, age, aligned, fitted, show
from qmodal.output.screen import Screen, Style, enable_output, is_enabled
from qmodal.spec.needs.sizes import size
from qmodal.store.history.logs import LogChunk, Source
from qmodal.store.watch.reasons import WORDING

ROWS = [{"name": "a", "n": 1, "unseen": None}, {"name": "longer", "n": 22, "unseen": None}]
COLUMNS: Columns = {"name": str, "n": "{:03}".format}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def chunk(text: bytes, *, source: Source = "stdout", container: str = "ta-1") -> LogChunk:
    return LogChunk(container, source, text, "1700000000123-0")


def test_a_pipe_gets_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, as_json=False)
    assert capsys.readouterr().out == "NAME    N\na       001\nlonger  022\n"


def test_json_has_the_values_of_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"name": r["name"], "n": r["n"]} for r in ROWS]


def test_a_terminal_gets_a_table_that_shows_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    show([{"name": "Model[red]"}], {"name": str}, as_json=False)
    assert "Model[red]" in terminal.getvalue()


ID = "0123456789abcdefABCDEF"
LONG = {
    **dict.fromkeys(("failed", "running", "waiting", "delayed", "containers", "version"), 12345),
    **dict.fromkeys(("index", "inputs", "backlog", "functions", "partitions"), 12345),
    **dict.fromkeys(("age", "ran", "every", "done", "took", "next", "used", "changed"), 1e6),
    **dict.fromkeys(("last_run", "next_run"), 1.7e9),
    "app": f"ap-{ID}",
    "call": f"fc-{ID}0",
    "pool": "0123456789abcdef" * 2,
    "container": f"ta-{ID[:10]}-12345",
    "worker": f"wk-{ID[:10]}",
    "dead": f"00-{ID}",
    "id": f"di-{ID}",
    "web": ["http://127.0.0.1:8000/" + "path/" * 9] * 2,
}
TABLES: dict[str, Columns] = {
    "app list": {**dict.fromkeys(app._COLUMNS, str), "age": age, "web": first_urls},
    "app history": dict.fromkeys(app._HISTORY_COLUMNS, str),
    "call list": call._COLUMNS,
    "pool list": pool._COLUMNS,
    "dead list": dead._COLUMNS,
    "container list": fleet._CONTAINER_COLUMNS,
    "worker list": boxes._COLUMNS,
    "schedule list": schedule._COLUMNS,
    "control status": control._CHORE_COLUMNS,
    "control usage": control._USAGE_COLUMNS,
    "dict list": {"name": str, "id": str, "age": age, "entries": str},
    "secret list": {"name": str, "age": age, "changed": age, "used": age},
}


@pytest.mark.parametrize("name", TABLES)
def test_every_list_fits_eighty_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = TABLES[name]
    row = {each: LONG.get(each, "a rather long name of something") for each in columns}
    if name == "pool list":
        row["reason"] = max(WORDING, key=lambda kind: len(WORDING[kind].short))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    show([row, {**row, "app": "ap-z" + ID[1:]}], columns, as_json=False)
    lines = click.unstyle(terminal.getvalue()).splitlines()
    assert max(map(len, lines)) <= 80
    heading = lines[0].split()
    said = capsys.readouterr().err
    for each in columns:
        shown = each.replace("_", " ")
        assert shown.upper().split()[0] in heading or shown in said
        if each in ("name", "function", "state", "age", "failed"):
            assert each.upper() in heading


def test_what_is_cut_is_still_told_apart_and_begins_the_id() -> None:
    ids = ["ap-abcdefghijk1" + "0" * 10, "ap-abcdefghijk2" + "0" * 10, "ap-zzz" + "0" * 19]
    table, left_out = fitted([["APP", "NAME"], *([each, "x" * 60] for each in ids)], 76)
    shown = [row[0] for row in table[1:]]
    assert shown == [each[:15] for each in ids]
    assert ([row[1] for row in table[1:]], left_out) == ([f"{'x' * 58}…"] * 3, [])


def test_columns_go_from_the_right_and_what_matters_goes_last() -> None:
    table = [
        ["ID", "STATE", "MIDDLE", "AGE", "LAST"],
        ["1" * 9, "ready", "m" * 12, "2 h", "l" * 12],
    ]
    assert fitted(table, 36)[1] == ["LAST"]
    assert fitted(table, 30)[1] == ["MIDDLE", "LAST"]
    assert fitted(table, 12)[1] == ["STATE", "MIDDLE", "AGE", "LAST"]
    assert fitted(table, 80) == (table, [])


def test_text_needs_no_rows() -> None:
    assert aligned([["A", "B"]]) == ["A  B"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_an_age_has_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**31, "2.0 GiB")]
)
def test_sizes_are_binary(count: int, text: str) -> None:
    assert size(count) == text


def test_a_character_that_was_cut_is_put_together(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(Style())
    first, second = "ü".encode()[:1], "ü".encode()[1:]
    screen.write(chunk(first))
    screen.write(chunk(b"other\n", container="ta-2"))
    screen.write(chunk(second + b"\n"))
    assert capsys.readouterr().out == "other\nü\n"


@pytest.mark.parametrize(
    ("source", "shown"),
    [("stdout", "x\n"), ("stderr", "\x1b[31mx\x1b[0m\n"), ("system", "\x1b[33mx\x1b[0m\n")],
)
def test_colours_are_for_terminals(
    source: Source,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    Screen(Style()).write(chunk(b"x\n", source=source))
    assert capsys.readouterr().out == "x\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    Screen(Style()).write(chunk(b"x\n", source=source))
    assert terminal.getvalue() == shown


def test_timestamps_stand_before_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(Style(timestamps=True)).write(chunk(b"a\nb\n"))
    first, second = capsys.readouterr().out.splitlines()
    assert first[:4] == "2023"
    assert ".123" in first
    assert (first[-2:], second[-2:]) == (" a", " b")


def test_a_reader_that_is_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    screen = Screen(Style())
    screen.write(chunk(b"a\n"))
    screen.write(chunk(b"b\n"))


def test_output_is_shown_within_the_block_only() -> None:
    assert not is_enabled()
    with enable_output():
        assert is_enabled()
    assert not is_enabled()


def test_an_app_with_many_web_functions_takes_one_line() -> None:
    assert first_urls(["http://a", "http://b"]) == "http://a http://b"
    assert (
        first_urls(["http://a", "http://b", "http://c", "http://d"])
        == "http://a http://b and 2 more"
    )

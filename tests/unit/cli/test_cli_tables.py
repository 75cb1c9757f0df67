"""Lists: aligned text, JSON, and how numbers are written; what is shown of an app's output."""

from __future__ import annotations

import io
import json
import sys

import pytest

from qmodal.cli.commands.app import first_urls
from qmodal.cli.tables import Columns, age, aligned, show
from qmodal.output.screen import Screen, Style, enable_output, is_enabled
from qmodal.spec.needs.sizes import size
from qmodal.store.history.logs import LogChunk, Source

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

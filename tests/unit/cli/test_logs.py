"""Which lines of a log are meant, and how those of several calls are told apart."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import click
import pytest
from click.testing import CliRunner

from qmodal.cli.commands.app import app
from qmodal.cli.logs import LogRequest
from qmodal.exception import InvalidError
from qmodal.output.log_search import LogFilter
from qmodal.output.screen import Screen, Style
from qmodal.store.history.logs import LogChunk

CALL, OTHER = "fc-45O5NRqurBqcQBjO000001", "fc-45O5NRqurBqcQBjO000002"
CHUNKS = [
    LogChunk("ta-1", "stdout", b"loading\n"),
    LogChunk("ta-1", "stdout", b"one\ntwo\n", pool="p", function="f", call=CALL, index=0),
    LogChunk("ta-2", "stderr", b"three\n", pool="q", function="Cls.*", call=OTHER, index=3),
    LogChunk("ta-2", "system", b"four one\n", pool="q", function="Cls.*", call=OTHER),
]


def request_of(**changes: Any) -> LogRequest:
    options: dict[str, Any] = {
        "follow": False,
        "since": 0,
        "until": None,
        "tail": None,
        "text": "",
        "call": None,
        "function": None,
        "container": "",
        "source": None,
        "timestamps": False,
        "labels": None,
        "as_json": False,
    }
    return LogRequest(**{**options, **changes})


@pytest.mark.parametrize(
    ("filters", "lines"),
    [
        ({}, ["loading", "one", "two", "three", "four one"]),
        ({"text": "one"}, ["one", "four one"]),
        ({"call": CALL}, ["one", "two"]),
        ({"call": OTHER}, ["three", "four one"]),
        ({"call": OTHER, "index": 3}, ["three"]),
        ({"function": "f"}, ["one", "two"]),
        ({"function": "Cls"}, ["three", "four one"]),
        ({"function": "Cls.method"}, ["three", "four one"]),
        ({"function": "Cl"}, []),
        ({"container": "ta-1"}, ["loading", "one", "two"]),
        ({"source": "stderr"}, ["three"]),
        ({"pool": "p"}, ["one", "two"]),
        ({"text": "o", "source": "stdout", "call": CALL}, ["one", "two"]),
    ],
)
def test_a_filter_selects_lines(filters: dict[str, Any], lines: list[str]) -> None:
    assert [line for _, line in LogFilter(**filters).lines(CHUNKS)] == lines


def test_a_filter_refuses_a_source_that_there_is_not() -> None:
    with pytest.raises(InvalidError, match="it may be one of 'stdout'"):
        LogFilter(source="out")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"follow": True, "until": 5}, "--follow"),
        ({"since": 7, "until": 7}, "nothing is between"),
    ],
)
def test_options_that_cannot_be_meant_together_are_refused(
    options: dict[str, Any], why: str
) -> None:
    with pytest.raises(click.UsageError, match=why):
        request_of(**options)


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 100), ({"until": 9}, 100), ({"since": 1}, None), ({"since": 1, "tail": 7}, 7)],
)
def test_the_newest_hundred_are_shown_unless_a_beginning_is_given(
    options: dict[str, Any], most: int | None
) -> None:
    assert request_of(**options).most == most


@pytest.mark.parametrize(
    ("text", "call", "index"),
    [(CALL, CALL, None), (f"in-{CALL[3:]}-17", CALL, 17)],
)
def test_a_call_is_meant_by_its_id_or_that_of_an_input(
    text: str, call: str, index: int | None
) -> None:
    wanted = request_of(call=text).wanted
    assert (wanted.call, wanted.index) == (call, index)


@pytest.mark.parametrize("text", ["fc-", "in-1", CALL[3:], f"in-{CALL[3:]}-x", "ap-1"])
def test_what_is_no_id_of_a_call_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="is not the id of a call"):
        _ = request_of(call=text).wanted


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--call", "word"], "is not the id of a call"),
        (["--follow", "--until", "5m"], "cannot be combined"),
        (["--since", "yesterday"], "is no time"),
        (["--since", "5m", "--until", "10m"], "nothing is between"),
        (["--tail", "-1"], "-1 is not in the range"),
        (["--source", "out"], "is not one of"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_server_is_asked(
    options: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMODAL_REDIS_URL", "nonsense")
    done = CliRunner().invoke(app, ["logs", "shop", *options])
    assert done.exit_code == 2
    assert why in " ".join(done.output.split())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(*chunks: LogChunk, style: Style | None = None, on: io.StringIO | None = None) -> str:
    """What is shown of these, on a terminal unless `on` something else."""
    with redirect_stdout(on or Terminal()) as out:
        screen = Screen(style or Style())
        for each in chunks:
            screen.write(each)
    return out.getvalue()


@pytest.fixture(autouse=True)
def without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def chunk(text: str, call: str = CALL, index: int = 0, container: str = "ta-1") -> LogChunk:
    return LogChunk(
        container, "stdout", text.encode(), pool="p", function="f", call=call, index=index
    )


def test_one_call_in_one_container_has_no_labels() -> None:
    assert said(chunk("a\n"), chunk("b\n", index=1), chunk("c\n", "", -1)) == "a\nb\nc\n"


def test_lines_of_several_calls_have_labels() -> None:
    shown = said(chunk("a\n"), chunk("b\n", OTHER), chunk("c\nd\n"), chunk("e\n", "", -1))
    assert shown == "a\nf-2 | b\nf-1 | c\nf-1 | d\nta-1 | e\n"


def test_lines_of_several_inputs_in_several_containers_have_their_index() -> None:
    shown = said(chunk("a\n"), chunk("b\n", index=12, container="ta-2"), chunk("c\n"))
    assert shown == "a\nf-1#12 | b\nf-1#0  | c\n"


def test_half_a_line_is_not_continued_by_another_call() -> None:
    shown = said(
        chunk("a\n"),
        chunk("half", OTHER),
        chunk(" whole\n", OTHER),
        chunk("half", OTHER),
        chunk("b"),
    )
    assert shown == "a\nf-2 | half whole\nf-2 | half\nf-1 | b"


def test_without_a_terminal_there_are_labels_only_if_they_are_asked_for() -> None:
    two = chunk("a\n"), chunk("b\n", OTHER)
    assert said(*two, on=io.StringIO()) == "a\nb\n"
    assert said(*two, on=io.StringIO(), style=Style(labels=True)) == "f-1 | a\nf-2 | b\n"
    assert said(*two, style=Style(labels=False)) == "a\nb\n"

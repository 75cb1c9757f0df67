"""What `qmodal app logs` shows: lines that were printed, and those that come."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import click

from qmodal.cli.echo import echo
from qmodal.client.client import Client
from qmodal.output.log_search import PAGE, LogFilter, newest
from qmodal.output.screen import Screen, Style
from qmodal.store.history.logs import LogChunk
from qmodal.wire.ids import input_id, input_of, is_call_id

TAIL = 100
FOLLOW_BLOCK_MS = 1000
Show = Callable[[LogChunk], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """What the command line asks for; times in ms since 1970. Raises UsageError for what cannot be meant together."""

    follow: bool
    since: int
    until: int | None
    tail: int | None
    text: str
    call: str | None
    function: str | None
    container: str
    source: str | None
    timestamps: bool
    labels: bool | None
    as_json: bool

    def __post_init__(self) -> None:
        if self.until is not None and self.follow:
            raise click.UsageError("--follow goes on, so it cannot be combined with --until.")
        if self.until is not None and self.until <= self.since:
            raise click.UsageError("--until is not later than --since, so nothing is between them.")
        if self.call:
            _call_of(self.call)

    @property
    def wanted(self) -> LogFilter:
        """The lines that are meant; raises UsageError for what is no id of a call."""
        call, index = _call_of(self.call) if self.call else ("", None)
        return LogFilter(
            function=self.function or "",
            call=call,
            index=index,
            container=self.container,
            source=self.source,
            text=self.text,
        )

    @property
    def most(self) -> int | None:
        """So many lines that are there already are shown, the newest; None: all."""
        return TAIL if self.tail is None and not self.since else self.tail


def _call_of(text: str) -> tuple[str, int | None]:
    """The call that is meant, and the index if it is an input of it."""
    name, dash, index = text.removeprefix("in-").rpartition("-")
    if text.startswith("in-") and dash and index.isdecimal() and is_call_id(f"fc-{name}"):
        return input_of(text)
    if is_call_id(text):
        return text, None
    raise click.UsageError(
        f"'{text}' is not the id of a call, which begins with fc-, or of an input (in-); "
        "`qmodal call list` shows them."
    )


def show_logs(client: Client, app_id: str, request: LogRequest) -> None:
    """Show the lines that are asked for."""
    wanted, style = request.wanted, Style(timestamps=request.timestamps, labels=request.labels)
    show = _show_as_json if request.as_json else Screen(style).write
    last = client.run(client.logs.tail(app_id, 1))
    cursor = last[-1].entry if last else "0-0"
    since = str(request.since) if request.since else "-"
    until = cursor if request.until is None else str(request.until)
    if request.most is None:
        _show_all(client, app_id, wanted, (since, until), show)
    else:
        op = newest(client, app_id, wanted, request.most, since=since, until=until)
        for chunk in client.run(op):
            show(chunk)
    if request.follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(client, app_id, cursor, wanted, show)


def _show_all(
    client: Client, app_id: str, wanted: LogFilter, span: tuple[str, str], show: Show
) -> None:
    start, end = span
    while page := client.run(client.logs.between(app_id, start, end, count=PAGE)):
        for chunk in wanted.chunks(page):
            show(chunk)
        start = f"({page[-1].entry}"


def _follow(client: Client, app_id: str, cursor: str, wanted: LogFilter, show: Show) -> None:
    while True:
        # Asked before the read: what is printed up to the end of the app is shown.
        record = client.run(client.apps.record(app_id))
        chunks = client.run(client.logs.follow(app_id, cursor, block=FOLLOW_BLOCK_MS))
        for chunk in wanted.chunks(chunks):
            show(chunk)
        if chunks:
            cursor = chunks[-1].entry
        elif record is None or record.state == "stopped":
            return


def _show_as_json(chunk: LogChunk) -> None:
    of_input = chunk.call and chunk.index >= 0
    about = {
        "time": chunk.moment.isoformat(timespec="milliseconds"),
        "source": chunk.source,
        "container": chunk.container,
        "function": chunk.function.removesuffix(".*"),
        "call": chunk.call,
        "input": input_id(chunk.call, chunk.index) if of_input else "",
    }
    for _, line in LogFilter().lines([chunk]):
        echo(json.dumps({**about, "text": line}))

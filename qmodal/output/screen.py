"""The screen: what the containers of a running app print, on standard output as it arrives."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmodal.client.process import state
from qmodal.exception import Error
from qmodal.output.labels import Labels
from qmodal.telemetry.printable import printable
from qmodal.transport.defects import survive

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.store.history.logs import LogChunk, Source

# Seconds. Workers write what is printed every 0.05 s, half a line after 0.25 s.
QUIET_SECONDS = 0.4
DRAIN_SECONDS = 2.0
RETRY_SECONDS = 0.2
PAUSE_SECONDS, MOST_CATCH_UP_SECONDS, LOOK_SECONDS = 0.15, 0.6, 0.02
# Milliseconds that one read waits: while the app runs, and while the rest is collected.
BLOCK, DRAIN_BLOCK = 1000, 10
# Characters of what was shown that are remembered, so that the command line need not say a failure twice.
MOST_REMEMBERED = 64 * 1024
COLOURS = {"stderr": "\x1b[31m", "system": "\x1b[33m"}
PLAIN = "\x1b[0m"
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class Style:
    """How lines are shown; `labels` None: with labels on a terminal, once several calls or containers print."""

    timestamps: bool = False
    progress: bool = True
    labels: bool | None = None


@contextmanager
def enable_output(*, show_timestamps: bool = False, show_progress: bool = True) -> Iterator[None]:
    """Within the block, apps that run show what their containers print, and maps how far they are.

    >>> with qmodal.enable_output(), app.run():
    ...     greet.remote("you")
    """
    with styled(Style(show_timestamps, show_progress)):
        yield


@contextmanager
def styled(style: Style) -> Iterator[None]:
    """As `enable_output`, in that style."""
    before = state.output_style
    state.output_style = style
    try:
        yield
    finally:
        state.output_style = before


def is_enabled() -> bool:
    """Whether apps that run now show what their containers print."""
    return state.output_style is not None


def shows_progress() -> bool:
    """Whether maps that run now show a bar on a terminal."""
    style = _style()
    return style is not None and style.progress


def _style() -> Style | None:
    found: Style | None = state.output_style
    return found


@contextmanager
def showing(client: Client, app_id: str) -> Iterator[Follower]:
    """Show the app's output during the block, and at its end what is still on its way.

    The end is fast if the app was stopped before: once the last of its containers is gone, all of
    its output has arrived. Else 0.4 s without output are taken for the end; 2 s are the limit.
    """
    follower = Follower(client, app_id, Screen(_style() or Style()))
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()


class Screen:
    """Writes chunks to `sys.stdout`; on a terminal with a colour for each source, and with labels if needed."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._decoders: dict[tuple[str, Source], codecs.IncrementalDecoder] = {}
        self._labels = Labels()
        # Whose line has no end yet; None at the beginning of a line.
        self._open: tuple[object, ...] | None = None
        self._is_closed = False

    def write(self, chunk: LogChunk) -> None:
        """Show one chunk; nothing, once nobody reads any more."""
        text = printable(self._decoder(chunk).decode(chunk.text), lines=True, colours=True)
        if not text or self._is_closed or sys.stdout is None:
            return
        state.shown = (state.shown + text)[-MOST_REMEMBERED:]
        try:
            sys.stdout.write(self._shown(text, chunk))
            sys.stdout.flush()
        except (OSError, ValueError):  # `qmodal run ... | head`
            self._is_closed = True

    def _decoder(self, chunk: LogChunk) -> codecs.IncrementalDecoder:
        # A long line is cut where it happens to be cut, which may be within a character.
        key = (chunk.container, chunk.source)
        if key not in self._decoders:
            self._decoders[key] = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return self._decoders[key]

    def _shown(self, text: str, chunk: LogChunk) -> str:
        head = self._head(chunk)
        whose = (chunk.container, chunk.source, chunk.call, chunk.index)
        goes_on = self._open == whose
        breaks = head and self._open is not None and not goes_on
        self._open = None if text.endswith("\n") else whose
        if not head:
            return _coloured(text, chunk.source)
        lines = [_coloured(line, chunk.source) for line in _LINE.findall(text)]
        return ("\n" if breaks else "") + ("" if goes_on else head) + head.join(lines)

    def _head(self, chunk: LogChunk) -> str:
        """What stands before each line."""
        head = ""
        if self._style.timestamps:
            head = chunk.moment.astimezone().isoformat(sep=" ", timespec="milliseconds") + " "
        self._labels.see(chunk)
        wanted = self._style.labels
        if wanted or (wanted is None and sys.stdout.isatty() and self._labels.are_needed):
            label, colour = self._labels.of(chunk)
            head += f"\x1b[{colour}m{label} |{PLAIN} " if _has_colours() else f"{label} | "
        return head


class Follower:
    """A thread with a connection of its own shows an app's output; whoever stops it, the rest."""

    def __init__(self, client: Client, app_id: str, screen: Screen) -> None:
        self._client = client
        self._app_id = app_id
        self._screen = screen
        self._cursor = "0-0"
        self._last = 0.0
        self._showing = threading.Lock()
        self._is_lost = False
        self._is_stopped = False
        self._thread = threading.Thread(target=self._follow, name="output", daemon=True)

    def start(self) -> None:
        """Begin with what is already there."""
        self._thread.start()

    def catch_up(self) -> None:
        """Returns once nothing has come for 0.15 s, or after 0.6 s."""
        began = self._last = time.monotonic()
        while time.monotonic() < min(self._last + PAUSE_SECONDS, began + MOST_CATCH_UP_SECONDS):
            time.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """Returns when all output of a stopped app has been shown.

        The thread is not waited for: it may be within a read, and whatever that returns has been
        shown by then.
        """
        stopped = self._last = time.monotonic()
        with contextlib.suppress(Error):
            # A server that is gone has nothing to tell, and asking it would take 20 s.
            if not self._is_lost:
                # Boxes look at what they run once a second; nobody should wait for that.
                self._client.run(self._client.fleet.nudge(self._boxes()))
            while not self._is_lost and self._collect() and not self._is_late(stopped):
                continue
        with self._showing:
            self._is_stopped = True

    def _collect(self) -> bool:
        """Show what there is; False if that was all."""
        client = self._client
        # The order matters: a worker writes a container's last output before it reports its end.
        is_gone = not self._boxes()
        op = client.logs.follow(self._app_id, self._cursor, block=DRAIN_BLOCK, patience=0.0)
        return self._show(client.run(op)) or not is_gone

    def _boxes(self) -> list[str]:
        """The workers that run containers of the app."""
        listed = self._client.run(self._client.fleet.living_containers())
        return [
            worker
            for worker, containers in listed.items()
            if any(each.app == self._app_id for each in containers)
        ]

    def _is_late(self, stopped: float) -> bool:
        now = time.monotonic()
        return now - self._last > QUIET_SECONDS or now - stopped > DRAIN_SECONDS

    def _follow(self) -> None:
        from qmodal.transport.connection import Address
        from qmodal.transport.driver import BlockingDriver

        driver = BlockingDriver(Address(self._client.settings.redis_url or ""))
        while not self._is_stopped:
            op = self._client.logs.follow(self._app_id, self._cursor, block=BLOCK, patience=0.0)
            is_read = False
            with survive("showing what containers print"), contextlib.suppress(Error):
                self._show(driver.run(op))
                is_read = True
            # The app's own calls complain about a server that is gone.
            self._is_lost = not is_read
            if self._is_lost:
                time.sleep(RETRY_SECONDS)
        driver.close()

    def _show(self, chunks: Sequence[LogChunk]) -> bool:
        """Show what nobody has shown yet; whether there was any."""
        with self._showing:
            if self._is_stopped:
                return False
            new = [chunk for chunk in chunks if _position(chunk.entry) > _position(self._cursor)]
            for chunk in new:
                self._screen.write(chunk)
                self._cursor = chunk.entry
                self._last = time.monotonic()
        return bool(new)


def _position(entry: str) -> tuple[int, int]:
    millis, _, number = entry.partition("-")
    return int(millis), int(number)


def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _coloured(text: str, source: Source) -> str:
    colour = COLOURS.get(source)
    if colour is None or not _has_colours():
        return text
    end = "\n" if text.endswith("\n") else ""
    return f"{colour}{text.removesuffix(end)}{PLAIN}{end}"

"""`qmodal serve`: an ephemeral app that is published anew whenever its source changes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.echo import echo
from qmodal.embedded.credentials import CredentialFiles
from qmodal.exception import Error

if TYPE_CHECKING:
    from qmodal.client.client import Client

# How often the files of the app are looked at.
FILE_POLL_SECONDS = 0.5
# The times of files are up to a tick of the system's timer behind the clock.
CLOCK_TICK_NS = 20_000_000
Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A publication, as the interpreter that made it has reported it."""

    number: int
    name: str


@click.command(no_args_is_help=True)
@options.listed_name
@click.option("--timeout", type=float, help="Seconds after which it ends by itself.")
@options.environment
@options.as_module
@options.timestamps
@options.labels
@click.argument("text", metavar="FILE[::APP]")
def serve(timeout: float | None, timestamps: bool, labels: bool | None, **given: Any) -> None:
    """Run an app until Ctrl-C, and publish it anew whenever one of its files changes."""
    from qmodal.cli.commands.run import ended_by_signals
    from qmodal.runner.run import ensure_server

    ends = time.monotonic() + timeout if timeout is not None else float("inf")
    with ended_by_signals(), ensure_server() as client:
        try:
            ServeSession(client, given).run(ends, timestamps=timestamps, labels=labels)
        except KeyboardInterrupt:
            return


class ServeSession:
    """One app that is served."""

    def __init__(self, client: Client, given: dict[str, Any]) -> None:
        from qmodal.wire.ids import new_app_id

        self._client = client
        self._files = CredentialFiles(client.settings, may_publish=True)
        self._app_id = new_app_id()
        self._stamps: dict[str, Stamp] = {}  # of the app's files, from before they were read last
        self._said: list[str] = []
        self._given = {**given, "app_id": self._app_id}

    def run(self, ends: float, *, timestamps: bool, labels: bool | None) -> None:
        """Publish, watch and publish again; raises Error if the first time fails."""
        from qmodal.output import screen as output
        from qmodal.runner.heartbeat import Heartbeat

        published = self._publish()
        if published is None:
            raise Error("the app could not be published")
        with ExitStack() as stack:
            style = output.Style(timestamps=timestamps, labels=labels)
            stack.enter_context(output.styled(style))
            stack.enter_context(output.showing(self._client, self._app_id))
            stack.callback(self._stop)
            heartbeat = stack.enter_context(
                Heartbeat(self._client, self._app_id, published.number, "ephemeral")
            )
            echo(f"Serving {published.name} ({self._app_id}); Ctrl-C ends it", err=True)
            self._say_published(published)
            self._say_addresses()
            while (changed := self._changed(ends)) is not None:
                echo(f"{changed} has changed", err=True)
                if (anew := self._publish()) is None:
                    echo("It was not published; waiting for the next change", err=True)
                    continue
                published = anew
                self._say_published(published)
                heartbeat.number = published.number
                self._say_addresses()

    def _changed(self, ends: float) -> str | None:
        """The first file that has changed since it was published; None when the time is over."""
        while time.monotonic() < ends:
            for name, stamp in self._stamps.items():
                if stamp_of(name) != stamp:
                    return name
            time.sleep(min(FILE_POLL_SECONDS, max(0.0, ends - time.monotonic())))
        return None

    def _publish(self) -> Published | None:
        """Publish in a fresh interpreter, as code that was imported stays what it was.

        Stamps are those from before: what changes while it publishes may have been read or not.
        """
        self._stamps = {name: stamp_of(name) for name in self._stamps}
        began = time.time_ns()
        command = [
            sys.executable,
            "-P",
            "-m",
            "qmodal.cli.commands.republish",
            json.dumps(self._given),
        ]
        done = subprocess.run(
            command,
            env=self._files.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            return None
        said = json.loads(done.stdout.splitlines()[-1])
        self._stamps = {
            name: self._stamps.get(name) or stamp_of(name, before=began) for name in said["files"]
        }
        self._ensure_gateway(said["number"])
        return Published(number=said["number"], name=said["name"])

    def _ensure_gateway(self, number: int) -> None:
        """Have a gateway of our own from the first version on that has web functions."""
        from qmodal.runner.gateway import gateway_ready, publishes_web, start_gateway

        client = self._client
        if client.stack is None:
            return
        found = client.run(client.specs.version(self._app_id, number))
        has_web = found is not None and publishes_web(found.value)
        if start_gateway(client, has_web=has_web):
            client.run(gateway_ready(client))

    def _say_published(self, published: Published) -> None:
        echo(f"Published version {published.number}", err=True)

    def _say_addresses(self) -> None:
        """Where its web functions answer, if that is not what was said last."""
        from qmodal.cli.addresses import named_addresses

        lines = self._client.run(named_addresses(self._client, self._app_id))
        for line in lines if lines != self._said else ():
            echo(line, err=True)
        self._said = lines

    def _stop(self) -> None:
        record = self._client.run(self._client.apps.record(self._app_id))
        if record is not None:
            self._client.run(self._client.apps.stop(record))


def stamp_of(name: str, *, before: int | None = None) -> Stamp:
    """What changes with a file, a time and a size; (0, 0) for one that is missing.

    `before`: if it was written later than that (nanoseconds), it counts as changed in any case.
    """
    try:
        status = Path(name).stat()
    except OSError:  # it is being replaced
        return 0, 0
    if before is not None and status.st_mtime_ns > before - CLOCK_TICK_NS:
        return 0, 0
    return status.st_mtime_ns, status.st_size

"""`qmodal down`, and `qmodal up --detach`: the system of this machine in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import psutil

from qmodal.cli.echo import echo
from qmodal.config import Settings
from qmodal.embedded.home import Home

# What `qmodal up` says last as it starts.
LAST_LINE = "Ctrl-C stops it"
LOG = "up.log"
POLL_SECONDS = 0.05
START_SECONDS = 90.0
# Running inputs get 25 s, then the supervisor has some for the rest.
STOP_SECONDS = 60.0


class NotStarted(click.ClickException):
    """What `qmodal up` said as it ended."""


class Misused(NotStarted):
    """What it said of wrong settings."""

    exit_code = 2


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="State folder (QMODAL_HOME).")
@click.option("--now", is_flag=True, help="Do not wait for running inputs: they run again later.")
def down(home: Path | None, now: bool) -> None:
    """Stop the `qmodal up` of this machine. Running inputs get 25 s; what waits is kept."""
    folder = home_of(home)
    running = running_up(folder)
    if running is None:
        echo(f"qmodal is not up (state in {folder.folder})")
        return
    running.send_signal(signal.SIGTERM)
    if now:
        running.send_signal(signal.SIGINT)
    try:
        running.wait(STOP_SECONDS)
    except psutil.TimeoutExpired as error:
        raise click.ClickException(
            f"process {running.pid} still runs after {STOP_SECONDS:g} s; `qmodal down --now` does not wait for inputs"
        ) from error
    echo("qmodal is down; what it held is kept for the next start")


def home_of(given: Path | None) -> Home:
    """The state folder that is named, else that of the settings."""
    settings = Settings.from_environ(os.environ)
    return Home((replace(settings, home=given.expanduser().absolute()) if given else settings).home)


def running_up(home: Home) -> psutil.Process | None:
    """The process of the `qmodal up` on that folder, if one runs."""
    pid, since = home.holder()
    try:
        process = psutil.Process(pid) if pid else None
        # A later process may have the number of one that was killed.
        return process if process and process.create_time() <= since + 1 else None
    except psutil.NoSuchProcess:
        return None


def start_detached(home: Home, options: Sequence[str]) -> None:
    """Start `qmodal up` with these options, and return once it is up; says so if it is already.

    It writes to `up.log` in the folder. Raises ClickException, with its status, if it does not start.
    """
    home.prepare()
    log = home.folder / LOG
    running = running_up(home)
    if running is not None:
        echo(f"qmodal is up already: process {running.pid}, state in {home.folder}")
        return
    # For us only: what it says may name the password for other machines.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    before = os.fstat(descriptor).st_size
    command = [sys.executable, "-P", "-m", "qmodal", "up", "--home", str(home.folder), *options]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=descriptor,
        stderr=descriptor,
        start_new_session=True,
    )
    os.close(descriptor)
    ends = time.monotonic() + START_SECONDS
    said = ""
    while LAST_LINE not in said and process.poll() is None and time.monotonic() < ends:
        time.sleep(POLL_SECONDS)
        said = log.read_bytes()[before:].decode(errors="replace")
    lines = said.strip().splitlines()
    if LAST_LINE not in said:
        failure = Misused if process.poll() == Misused.exit_code else NotStarted
        text = "\n".join(lines).removeprefix("Error: ")
        raise failure(text or f"it did not start; see {log}")
    at = next(n for n, line in enumerate(lines) if line.startswith(LAST_LINE))
    echo(
        "\n".join(
            [*lines[:at], f"It goes on in the background: process {process.pid}, log in {log}."]
        )
    )
    echo("`qmodal down` stops it.")

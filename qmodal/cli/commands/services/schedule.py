"""`qmodal schedule list`, `run`, `pause` and `resume`: functions that run at times of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.echo import echo
from qmodal.cli.tables import Columns, show
from qmodal.exception import NotFoundError
from qmodal.spec.reader import MismatchError

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.services.control.schedules.table import Schedule
    from qmodal.transport.operation import Op

NOBODY = "Nobody starts them: run `qmodal control` (`qmodal up` does)."


@click.group()
def schedule() -> None:
    """List, run, pause and resume the schedules of deployed functions."""


@schedule.command("list")
@options.environment
@click.option("--app", metavar="NAME", help="Of this app only.")
@options.as_json
def listed(environment: str | None, app: str | None, as_json: bool) -> None:
    """List the schedules: when each runs, has run last, and runs next."""
    from qmodal.client.client import current
    from qmodal.services.control.jobs.backlog import processes
    from qmodal.services.control.schedules.table import Table

    client = current()
    found = client.run(Table(client).all())
    rows = [
        _row(each)
        for each in sorted(found.values(), key=lambda each: each.names)
        if environment in (None, each.environment) and app in (None, each.app)
    ]
    show(rows, _COLUMNS, as_json=as_json)
    if rows and not client.run(processes(client.keys)):
        echo(NOBODY, err=True)


def _row(each: Schedule) -> dict[str, Any]:
    import time

    run = each.notes.run
    now = round(time.time() * 1000)
    following = None if each.notes.is_paused else each.cadence.next(max(now, each.baseline(now)))
    return {
        "app": each.app,
        "environment": each.environment,
        "function": each.function,
        "schedule": str(each.cadence),
        "last_run": None if run is None else run.at / 1000,
        "last_call": None if run is None else run.call,
        "next_run": None if following is None else following / 1000,
        "paused": each.notes.is_paused,
    }


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")


_COLUMNS: Columns = {
    "app": str,
    "environment": str,
    "function": str,
    "schedule": str,
    "last_run": _moment,
    "last_call": lambda call: call or "-",
    "next_run": _moment,
    "paused": lambda paused: "paused" if paused else "",
}


def _named(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments that say which schedule."""
    for option in (
        options.environment,
        click.argument("function", metavar="FUNCTION"),
        click.argument("app", metavar="APP"),
    ):
        command = option(command)
    return command


@schedule.command(no_args_is_help=True)
@_named
def run(app: str, function: str, environment: str | None) -> None:
    """Call the function now, once, beside its schedule. Prints the id of the call."""
    from qmodal.client.client import current
    from qmodal.services.control.schedules.calls import submit_now
    from qmodal.store.server import server_ms

    client = current()
    found = client.run(_find(client, app, function, environment))
    now = round(client.run(server_ms()))
    echo(client.run(submit_now(client, found, now)))


@schedule.command(no_args_is_help=True)
@_named
def pause(app: str, function: str, environment: str | None) -> None:
    """Start no more calls by the schedule, also of later versions, until it is resumed."""
    echo(_hold(app, function, environment, is_paused=True))


@schedule.command(no_args_is_help=True)
@_named
def resume(app: str, function: str, environment: str | None) -> None:
    """Start calls by the schedule again; what was left out meanwhile stays so."""
    echo(_hold(app, function, environment, is_paused=False))


def _hold(app: str, function: str, environment: str | None, *, is_paused: bool) -> str:
    from qmodal.client.client import current

    client = current()
    found = client.run(_find(client, app, function, environment))
    change = client.schedules.hold(found.app_id, function, is_paused=is_paused)
    verb = "paused" if is_paused else "resumed"
    return f"{verb.capitalize() if client.run(change) else 'Already ' + verb}: {app}.{function}"


def _find(client: Client, app: str, function: str, environment: str | None) -> Op[Schedule]:
    from qmodal.services.control.schedules.table import Table

    environment = environment or client.settings.environment
    app_id = yield from client.apps.find(environment, app)
    found = None
    if app_id is not None:
        _, found = yield from Table(client).find(app_id, function)
    if found is not None and (found.environment, found.app) != (environment, app):
        raise MismatchError(
            f"the name {app!r} of environment {environment!r} leads to {app_id}, which is the app {found.app!r} of "
            f"{found.environment!r}: it was changed by something else than qmodal. Deploy {app!r} again."
        )
    if found is None:
        raise NotFoundError(
            f"There is no schedule of {function!r} in a deployed app {app!r} of environment "
            f"'{environment}'; `qmodal schedule list` names those there are."
        )
    return found

"""`qmodal app`: the deployed apps, their end, and what their containers printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.addresses import NO_GATEWAY
from qmodal.cli.commands.fleet import FleetTable, look
from qmodal.cli.echo import confirm, echo
from qmodal.cli.tables import Columns, age, show
from qmodal.exception import InvalidError, NotFoundError
from qmodal.store.history.logs import LETTERS
from qmodal.transport.defects import skip
from qmodal.wire.envelope import MalformedError

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.runner.history import PastVersion
    from qmodal.store.apps import AppRecord
    from qmodal.store.watch.observing import Observation
    from qmodal.transport.operation import Op

_APP_ID = re.compile(r"ap-[0-9A-Za-z]{22}")
# As lists show ids.
_BEGINNING = re.compile(r"ap-[0-9A-Za-z]{4,21}")
# Of one app in a list; `--json` has them all.
MOST_URLS = 2


@click.group()
def app() -> None:
    """List and stop apps, and read their logs."""


@app.command("list")
@options.environment
@click.option(
    "-a", "--all", "is_all", is_flag=True, help="Also those that were stopped within a week."
)
@options.as_json
def listing(environment: str | None, is_all: bool, as_json: bool) -> None:
    """List the apps that are deployed or run: versions, containers, inputs that wait, and where web functions answer."""
    from qmodal.client.client import current

    client = current()
    rows = client.run(_rows(client, environment, is_all=is_all))
    columns: Columns = {**dict.fromkeys(_COLUMNS, str), "age": age, "web": first_urls}
    show(rows, columns, as_json=as_json)
    if any(row["has_web"] for row in rows) and not client.run(client.gateways.living()):
        echo(f"Nobody serves web functions, as {NO_GATEWAY}", err=True)


def first_urls(urls: Sequence[str]) -> str:
    """As many of them as a table has room for."""
    more = len(urls) - MOST_URLS
    return " ".join([*urls[:MOST_URLS], *([f"and {more} more"] if more > 0 else [])])


_COLUMNS = ("name", "environment", "app", "state", "version", "age", "containers", "backlog")


@app.command(no_args_is_help=True)
@click.argument("which", metavar="NAME|ID")
@options.environment
@options.yes
def stop(which: str, environment: str | None, yes: bool) -> None:
    """Stop an app: its containers end, it takes no more inputs. This cannot be undone."""
    from qmodal.client.client import current

    client = current()
    record = client.run(find(client, which, environment))
    if record.state == "stopped":
        echo(f"{record.name} ({record.app_id}) has stopped already")
        return
    if not yes:
        confirm(f"Stop {record.name} ({record.app_id})?")
    client.run(client.apps.stop(record))
    echo(f"Stopped {record.name} ({record.app_id})")


@app.command(no_args_is_help=True)
@click.argument("which", metavar="NAME|ID")
@options.environment
@click.option("-f", "--follow", is_flag=True, help="Go on until the app ends, or Ctrl-C.")
@options.since
@options.until
@click.option(
    "-n",
    "--tail",
    type=click.IntRange(0),
    help="So many lines, the newest; 100 without --since, with it all.",
)
@click.option("--search", "text", metavar="TEXT", default="", help="With this text in them.")
@click.option("--call", "--function-call", metavar="ID", help="Of this call (fc-) or input (in-).")
@options.function
@click.option("--container", metavar="ID", default="", help="Of this container only.")
@click.option(
    "-s", "--source", type=click.Choice(sorted(LETTERS)), help="Printed to this; system: by qmodal."
)
@options.timestamps
@options.labels
@click.option("--json", "as_json", is_flag=True, help="Print an object of JSON for each line.")
def logs(which: str, environment: str | None, **given: Any) -> None:
    """Show what an app's containers printed last: lines that all of these options mean."""
    from qmodal.cli.logs import LogRequest, show_logs
    from qmodal.client.client import current

    request = LogRequest(**given)
    client = current()
    show_logs(client, client.run(find(client, which, environment)).app_id, request)


@app.command(no_args_is_help=True)
@click.argument("which", metavar="NAME|ID")
@options.environment
@options.as_json
def history(which: str, environment: str | None, as_json: bool) -> None:
    """List an app's versions, the newest first."""
    from qmodal.client.client import current
    from qmodal.runner.history import history

    client = current()
    record = client.run(find(client, which, environment))
    rows = [_release_row(each, record) for each in client.run(history(client, record))]
    show(rows, dict.fromkeys(_HISTORY_COLUMNS, str), as_json=as_json)


_HISTORY_COLUMNS = ("version", "current", "published", "tag", "python", "functions")


@app.command(no_args_is_help=True)
@click.argument("which", metavar="NAME|ID")
@click.argument("version", type=int, required=False)
@options.environment
def rollback(which: str, version: int | None, environment: str | None) -> None:
    """Publish an earlier version again, by default the one before the current."""
    from qmodal.client.client import current
    from qmodal.runner.history import rollback

    client = current()
    record = client.run(find(client, which, environment))
    target = record.version - 1 if version is None else version
    new = client.run(rollback(client, record, target))
    echo(f"Version {new.number} of {new.name} is version {target} again")


def _release_row(release: PastVersion, record: AppRecord) -> dict[str, Any]:
    from qmodal.store.history.logs import moment_of

    version = release.version
    published = moment_of(release.published).astimezone()
    return {
        "version": release.number,
        "current": "*" if release.number == record.version else "",
        "published": published.isoformat(sep=" ", timespec="seconds"),
        "tag": version.tag if version else "",
        "python": version.python if version else "",
        "functions": len(version.functions) if version else "gone",
    }


def find(client: Client, which: str, environment: str | None) -> Op[AppRecord]:
    """The app of that id, or whose id begins so, or of that name: the deployed one, else the one that was stopped last.

    Raises NotFoundError, or MismatchError if the name leads to another app.
    """
    environment = environment or client.settings.environment
    is_named = not _APP_ID.fullmatch(which)
    app_id: str | None = which
    if is_named and _BEGINNING.fullmatch(which):
        app_id = yield from _beginning_with(client, which)
        is_named = app_id is None
    if is_named:
        app_id = yield from client.apps.find(environment, which)
        app_id = app_id or (yield from client.apps.last_stopped(environment, which))
        if app_id is None:
            raise NotFoundError(
                f"There is no app '{which}' deployed or stopped in environment '{environment}'; "
                "`qmodal app list` names those there are."
            )
    record = yield from client.apps.record(app_id or "")
    if record is None:
        raise NotFoundError(f"There is no app {which}; what it knew is kept for a week at most.")
    if is_named:
        client.specs.check_title(record, environment, which)
        if record.state != "stopped":  # then it has no version any more
            with suppress(MalformedError):  # of another release: it has to be possible to stop it
                yield from client.specs.of_record(record)
    return record


def _beginning_with(client: Client, text: str) -> Op[str | None]:
    """The id of the app that begins so; None if none does, as it may be a name. Raises InvalidError for several."""
    fleet = yield from look(client)
    pools = yield from client.observing.active()
    observations = yield from client.observing.observe(pools)
    records = yield from _records(client, fleet, observations, is_all=True)
    found = sorted(each.app_id for each in records if each.app_id.startswith(text))
    if len(found) > 1:
        raise InvalidError(f"`{text}` begins the ids of several apps: {', '.join(found)}")
    return found[0] if found else None


def _rows(client: Client, environment: str | None, *, is_all: bool) -> Op[list[dict[str, Any]]]:
    from qmodal.functions.web import web_addresses
    from qmodal.store.server import server_ms

    fleet = yield from look(client)
    pools = yield from client.observing.active()
    observations = yield from client.observing.observe(pools)
    records = yield from _records(client, fleet, observations, is_all=is_all)
    records = [each for each in records if environment in (None, each.environment)]
    published = yield from client.apps.current_since(records)
    now = yield from server_ms()
    rows = []
    for record, at in zip(records, published, strict=True):
        is_over = record.state == "stopped"
        web = [] if is_over else (yield from web_addresses(client, record.app_id))
        rows.append(
            {
                "name": record.name,
                "environment": record.environment,
                "app": record.app_id,
                "state": record.state,
                "version": record.version,
                "age": round(max(0.0, now - at) / 1000, 3),
                "containers": sum(each.app == record.app_id for _, each in fleet.alive),
                "backlog": sum(
                    backlog_of(each) for each in observations if _is_of(each, record.app_id)
                ),
                "web": [url for each in web for url in each.urls],
                "has_web": bool(web),
            }
        )
    return rows


def _records(
    client: Client,
    fleet: FleetTable,
    observations: Sequence[Observation | None],
    *,
    is_all: bool,
) -> Op[list[AppRecord]]:
    """What is deployed, and what has a pool or a container; with `is_all` also what was stopped last of each name."""
    deployed = yield from client.apps.deployed()
    ids = set(deployed.values())
    ids |= {each.app for each in observations if each is not None}
    ids |= {each.app for _, each in fleet.alive if each.app}
    if is_all:
        ids |= set((yield from client.apps.all_stopped()).values())
    found = yield from client.apps.records(sorted(ids))
    for title, app_id in deployed.items():
        record = found.get(app_id)
        if record is not None and title != record.title:
            skip(f"the app {title}", f"its name leads to {app_id}, which is {record.title}")
            del found[app_id]
    records = [each for each in found.values() if each is not None]
    records = [each for each in records if is_all or each.state != "stopped"]
    return sorted(records, key=lambda each: (each.environment, each.name, each.app_id))


def _is_of(observation: Observation | None, app_id: str) -> bool:
    return observation is not None and observation.app == app_id


def backlog_of(observation: Observation | None) -> int:
    """Inputs that no container holds."""
    if observation is None:
        return 0
    held = sum(consumer.pending for consumer in observation.consumers)
    return max(0, observation.inflight - held - observation.delayed)

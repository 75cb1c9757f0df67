"""`qmodal control`: start the calls of schedules and do chores; `status` and `usage` say what was done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.echo import echo
from qmodal.cli.tables import Columns, age, show

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.transport.operation import Op


@click.group(invoke_without_command=True)
@options.metrics_port
@options.log_json
@click.option("--insecure", is_flag=True, help="Use a server on the network without a signing key.")
@click.pass_context
def control(
    context: click.Context, metrics_port: int | None, *, log_json: bool, insecure: bool
) -> None:
    """Run schedules and chores until SIGTERM or Ctrl-C. Several may run."""
    if context.invoked_subcommand is None:
        from qmodal.services.control.service import serve

        serve(insecure=insecure, metrics_port=metrics_port, log_json=log_json)


@control.command()
@options.as_json
def status(as_json: bool) -> None:
    """Show the chores: when each was done, what it did, and when it is due again."""
    from qmodal.client.client import current
    from qmodal.services.control.jobs.backlog import backlogs, processes

    client = current()
    show(client.run(_chores(client)), _CHORE_COLUMNS, as_json=as_json)
    running = client.run(processes(client.keys))
    found = client.run(backlogs(client.keys))
    jobs = ", ".join(
        f"{name}: {each.waiting} waiting, {each.failed} failed" for name, each in found.items()
    )
    echo(f"Control processes: {', '.join(running) or 'none'}. Jobs of {jobs}.", err=True)


def _chores(client: Client) -> Op[list[dict[str, Any]]]:
    from qmodal.services.control.chores.book import BOOK
    from qmodal.store.server import server_ms

    now = yield from server_ms()
    records = yield from client.chores.all()
    rows = []
    for name, chore in BOOK.items():
        record = records.get(name)
        done = None if record is None else (now - record.at) / 1000
        due = None if record is None else record.slot / 1000 + chore.every - now / 1000
        rows.append(
            {
                "chore": name,
                "every": chore.every,
                "done": done,
                "took": None if record is None else record.seconds,
                "next": due,
                "did": "" if record is None else record.error or record.did,
                "failed": record is not None and bool(record.error),
                "by": "" if record is None else record.process,
            }
        )
    return rows


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{age(seconds)} ago"


def _in(seconds: float | None) -> str:
    return "now" if seconds is None or seconds <= 0 else f"in {age(seconds)}"


_CHORE_COLUMNS: Columns = {
    "chore": str,
    "every": age,
    "done": _ago,
    "took": lambda seconds: "" if seconds is None else f"{seconds:.2f} s",
    "next": _in,
    "did": str,
    "failed": lambda failed: "yes" if failed else "",
    "by": str,
}


@control.command()
@click.option("--days", type=click.IntRange(1, 90), default=7, help="Of so many days (7).")
@options.as_json
def usage(days: int, as_json: bool) -> None:
    """Show what each function has done since so many days: inputs, how they ended, and how long they ran."""
    from qmodal.client.client import current

    client = current()
    show(client.run(_usage(client, days)), _USAGE_COLUMNS, as_json=as_json)


def _usage(client: Client, days: int) -> Op[list[dict[str, Any]]]:
    from qmodal.store.history.statistics import OUTCOMES
    from qmodal.store.history.usage import DAY_MS, RUN_TIME, USAGE_FIELDS

    listed = yield from client.statistics.series()
    now = yield from client.statistics.read(listed)
    day = int(time.time() * 1000 - days * DAY_MS)
    before = yield from client.usage.since(day, listed)
    rows = []
    for series, counts in sorted(now.items()):
        earlier = before.get(series, {})
        did = {name: max(0, counts.get(name, 0) - earlier.get(name, 0)) for name in USAGE_FIELDS}
        inputs = sum(did[name] for name in OUTCOMES)
        if inputs or did["alive"]:
            rows.append(
                {
                    "app": series.app,
                    "environment": series.environment,
                    "function": series.function,
                    "inputs": inputs,
                    "failed": inputs - did["value"],
                    "ran": did[RUN_TIME] / 1e6,
                    "containers": did["alive"] / 1e6,
                }
            )
    return rows


_USAGE_COLUMNS: Columns = {
    "app": str,
    "environment": str,
    "function": str,
    "inputs": str,
    "failed": str,
    "ran": "{:.1f} s".format,
    "containers": "{:.1f} s".format,
}

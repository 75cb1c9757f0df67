"""`qmodal worker list`, `show`, `cordon`, `uncordon` and `drain`: boxes, as they are offered and used."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.echo import echo
from qmodal.cli.tables import Columns, age, aligned, show
from qmodal.spec.needs.sizes import size
from qmodal.store.watch.reasons import line_of
from qmodal.transport.operation import Pause

if TYPE_CHECKING:
    from qmodal.cli.commands.services.box_view import BoxView
    from qmodal.client.client import Client
    from qmodal.transport.operation import Op

# How often a box that is drained is looked at.
DRAIN_POLL_SECONDS = 0.25


@click.command("list")
@options.as_json
def listing(as_json: bool) -> None:
    """List the workers of all boxes: what they offer, how many containers run, and their state."""
    from qmodal.cli.commands.services.box_view import view
    from qmodal.client.client import current

    client = current()
    boxes = client.run(view(client))
    if as_json:
        echo(json.dumps([each.row for each in boxes], indent=2))
        return
    show([_line(each) for each in boxes], _COLUMNS, as_json=False)


def _line(box: BoxView) -> dict[str, str]:
    """The box in a table of 80 columns; `worker show` and JSON have all of it."""
    row = box.row
    return {
        "worker": row["worker"],
        "host": _cut(row["host"], 12),
        "cpus": f"{row['cpus']:g}",
        "memory": size(row["memory"]),
        "gpus": _cut(box.gpus_in_words, 12),
        "labels": _cut(", ".join(row["labels"]), 10),
        "runs": f"{row['containers']}/{row['max_containers']}",
        "state": row["state"],
    }


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@click.command("show", no_args_is_help=True)
@click.argument("which", metavar="ID|HOST")
@options.as_json
def showing(which: str, as_json: bool) -> None:
    """Show a box: what it offers, what of that is taken, and each container with what it takes.

    What a function asks for is taken (cpu=, memory=); of one that asks for nothing, what was measured (~), and no CPU
    while it is idle.
    """
    from qmodal.cli.commands.finding.why.box import why_box
    from qmodal.cli.commands.services.box_view import details, find
    from qmodal.client.client import current
    from qmodal.client.waiting.why import fleet_state

    client = current()
    box = client.run(find(client, which))
    containers = client.run(details(client, box))
    about = {**box.row, **box.taken(containers), "containers": [each.row for each in containers]}
    state = client.run(fleet_state(client.fleet, client.boxes, client.server))
    about["why"] = client.run(why_box(client, box.worker, state)).text
    if as_json:
        echo(json.dumps(about, indent=2))
        return
    for name, text in _about(box, about):
        wrapped = textwrap.wrap(text, 64) or [""]
        for number, line in enumerate(wrapped):
            echo(f"{'' if number else name:<16}{line}".rstrip())
    if containers:
        echo()
        _show_containers(about["containers"])


def _about(box: BoxView, about: dict[str, Any]) -> list[tuple[str, str]]:
    since = f" for {age(about['cordoned'])}" if about["cordoned"] is not None else ""
    lease = about["lease"]
    most = "at most" if about["is_measured"] else "at most, as its operator has said"
    return [
        ("worker", about["worker"]),
        ("host", f"{about['host']} (pid {about['pid']})"),
        ("state", f"{about['state']}{since}"),
        ("why", line_of(about["why"])),
        ("lease", f"{lease:.0f} s left" if lease > 0 else f"lost {age(-lease)} ago"),
        ("labels", ", ".join(about["labels"]) or "-"),
        ("cpus", f"{about['cpus_taken']:.3g} of {about['cpus']:g} are taken"),
        ("memory", f"{size(about['memory_taken'])} of {size(about['memory'])} are taken"),
        ("gpus", f"{box.gpus_in_words}; {about['gpus_taken']} leased" if about["gpus"] else "-"),
        ("containers", f"{len(about['containers'])}, {about['max_containers']} {most}"),
        ("python", f"{about['python']}, qmodal {about['version']}"),
    ]


def _show_containers(rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (
            row["container"],
            _cut(row["pool"], 18),
            row["state"],
            age(row["age"]),
            _taken(row, "cpu", "{:.2g}".format),
            _taken(row, "memory", size),
            _cut(", ".join(row["gpus"]), 12),
        )
        for row in rows
    ]
    for line in aligned([("CONTAINER", "POOL", "STATE", "AGE", "CPU", "MEMORY", "GPU"), *cells]):
        echo(line)


def _taken(row: dict[str, Any], what: str, shown: Any) -> str:
    """What a container takes: "~" if nobody asked for it."""
    return f"{'~' if row[f'is_{what}_measured'] else ''}{shown(row[what])}"


@click.command(no_args_is_help=True)
@click.argument("which", metavar="ID|HOST")
def cordon(which: str) -> None:
    """Cordon a box: it gets nothing new, and what it runs goes on, until `qmodal worker uncordon`."""
    client, worker = _meant(which)
    _insist(client.run(client.boxes.cordon(worker)), worker)
    echo(f"Cordoned {worker}: it gets no containers, and those that it has go on")


@click.command(no_args_is_help=True)
@click.argument("which", metavar="ID|HOST")
def uncordon(which: str) -> None:
    """Let a box that is cordoned or drained get containers again."""
    client, worker = _meant(which)
    _insist(client.run(client.boxes.uncordon(worker)), worker)
    echo(f"Uncordoned {worker}: it gets containers again")


@click.command(no_args_is_help=True)
@click.argument("which", metavar="ID|HOST")
@click.option("--wait", "waits", is_flag=True, help="Wait until none of its containers is left.")
def drain(which: str, waits: bool) -> None:
    """Cordon a box and have its containers end: each finishes what it runs, and the rest runs elsewhere."""
    client, worker = _meant(which)
    _insist(client.run(client.boxes.drain(worker)), worker)
    echo(f"Drained {worker}: it gets no containers, and those that it has end after what they run")
    if waits:
        client.run(_until_empty(client, worker))
        echo(f"{worker} runs nothing any more")


def _until_empty(client: Client, worker: str) -> Op[None]:
    while any(not each.is_over for each in (yield from client.fleet.containers([worker]))[worker]):
        yield Pause(DRAIN_POLL_SECONDS)


def _meant(which: str) -> tuple[Client, str]:
    from qmodal.cli.commands.services.box_view import find
    from qmodal.client.client import current

    client = current()
    return client, client.run(find(client, which)).worker


def _insist(is_there: bool, worker: str) -> None:
    if not is_there:
        from qmodal.exception import NotFoundError

        raise NotFoundError(
            f"{worker} was given up or has stopped; `qmodal worker list` shows the boxes there are."
        )


_COLUMNS: Columns = dict.fromkeys(
    ("worker", "host", "cpus", "memory", "gpus", "labels", "runs", "state"), str
)

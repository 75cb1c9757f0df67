"""`qmodal container list` and `stop`: what runs on all boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from qmodal.cli import options
from qmodal.cli.echo import confirm, echo
from qmodal.cli.tables import Columns, age, show
from qmodal.exception import InvalidError, NotFoundError
from qmodal.store.server import server_ms
from qmodal.transport.operation import Pause

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.store.fleet import ContainerReport
    from qmodal.store.watch.boxes import BoxRecord
    from qmodal.store.watch.observing import Observation
    from qmodal.transport.operation import Op

# How often a container that is to stop is looked at, and its box reminded.
STOP_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTable:
    """The boxes at one moment: what they are, the end of their leases (ms), what runs on living ones."""

    now: float
    boxes: dict[str, BoxRecord]
    leases: dict[str, float]
    containers: dict[str, list[ContainerReport]]

    @property
    def alive(self) -> list[tuple[str, ContainerReport]]:
        """The containers that exist, each with its box."""
        return [
            (worker, container)
            for worker, containers in self.containers.items()
            for container in containers
        ]


def look(client: Client) -> Op[FleetTable]:
    """Look at all boxes."""
    leases = yield from client.fleet.workers()
    boxes = yield from client.boxes.records(list(leases))
    containers = yield from client.fleet.living_containers()
    now = yield from server_ms()
    return FleetTable(now=now, boxes=boxes, leases=leases, containers=containers)


@click.group()
def container() -> None:
    """List and stop containers."""


@container.command("list")
@options.as_json
def containers(as_json: bool) -> None:
    """List the containers of all boxes: what they serve, since when, and what they hold."""
    from qmodal.client.client import current

    client = current()
    fleet = client.run(look(client))
    pools = sorted({each.pool for _, each in fleet.alive})
    held = _held(client.run(client.observing.observe(pools)))
    rows = [
        {
            "container": each.container,
            "pool": each.label,
            "app": each.app,
            "version": each.number,
            "state": "leaving" if each.leaving else each.state,
            "age": round((fleet.now - each.since) / 1000, 3),
            "inputs": held.get(each.container, 0),
            "worker": worker,
            "detail": each.detail,
        }
        for worker, each in fleet.alive
    ]
    show(rows, _CONTAINER_COLUMNS, as_json=as_json)


@container.command("stop", no_args_is_help=True)
@click.argument("which", metavar="ID")
@click.option("--graceful", is_flag=True, help="Let it finish what it runs.")
@options.yes
def stop(which: str, graceful: bool, yes: bool) -> None:
    """Stop a container. What it runs is interrupted and runs again elsewhere."""
    from qmodal.client.client import current

    client = current()
    which = client.run(_named(client, which))
    if not yes:
        confirm(f"Stop {which}?")
    client.run(_end(client, which, graceful=graceful))
    echo(f"{which} finishes what it runs and leaves" if graceful else f"Stopped {which}")


def _named(client: Client, which: str) -> Op[str]:
    """The container of that id, or the only one whose id begins so; raises NotFoundError, InvalidError."""
    names = [each.container for _, each in (yield from look(client)).alive]
    found = [which] if which in names else [each for each in names if each.startswith(which)]
    if not found:
        raise NotFoundError(f"There is no container {which} that runs.")
    if len(found) > 1:
        raise InvalidError(f"`{which}` begins the ids of several containers: {', '.join(found)}")
    return found[0]


def _end(client: Client, which: str, *, graceful: bool) -> Op[None]:
    """Ask its box until it does so: what is published may be lost."""
    while (yield from _is_alive(client, which, leaving=not graceful)):
        yield from client.fleet.nudge_stopped(which, graceful=graceful)
        yield Pause(STOP_POLL_SECONDS)


def _is_alive(client: Client, which: str, *, leaving: bool = True) -> Op[bool]:
    """Whether the container exists; `leaving`: one that is about to go counts, too."""
    fleet = yield from look(client)
    states = {each.container: each.state for _, each in fleet.alive}
    return which in states and (leaving or states[which] != "draining")


def _held(observations: list[Observation | None]) -> dict[str, int]:
    return {
        consumer.name: consumer.pending
        for observation in observations
        if observation is not None
        for consumer in observation.consumers
    }


_CONTAINER_COLUMNS: Columns = {
    "container": str,
    "pool": str,
    "app": str,
    "version": str,
    "state": str,
    "age": age,
    "inputs": str,
    "worker": str,
    "detail": str,
}

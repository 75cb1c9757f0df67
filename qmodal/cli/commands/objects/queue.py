"""`qmodal queue`: the queues of an environment, and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qmodal.cli import options
from qmodal.cli.commands.objects import shared
from qmodal.cli.echo import confirm, echo
from qmodal.exception import InvalidError

if TYPE_CHECKING:
    from qmodal.client.client import Client
    from qmodal.transport.operation import Op

partition_option = click.option(
    "-p", "--partition", default="", help="A partition; by default the unnamed one."
)


@click.group("queue")
def queue() -> None:
    """List queues, look into them and empty them."""


@queue.command("list")
@options.as_json
@shared.environment
def listing(as_json: bool, environment: str | None) -> None:
    """List the queues: how many partitions have items, and how many items there are."""
    columns = {"partitions": str, "items": str}
    shared.list_objects("queue", environment, columns, _counted, as_json=as_json)


def _counted(client: Client, object_id: str) -> Op[dict[str, int]]:
    found = yield from client.queues.partitions(object_id)
    return {"partitions": len(found), "items": sum(found.values())}


@queue.command(no_args_is_help=True)
@click.argument("name")
@shared.environment
def create(name: str, environment: str | None) -> None:
    """Make a queue, unless there is one of that name."""
    shared.create("queue", name, environment)


@queue.command("len", no_args_is_help=True)
@click.argument("name")
@partition_option
@click.option("-t", "--total", is_flag=True, help="Of all partitions together.")
@shared.environment
def length(name: str, partition: str, total: bool, environment: str | None) -> None:
    """Print how many items a partition has."""
    from qmodal.client.client import current

    client = current()
    _check_one(partition, "--total", total)
    record = shared.find(client, "queue", name, environment)
    if total:
        echo(sum(client.run(client.queues.partitions(record.object_id)).values()))
    else:
        echo(client.run(client.queues.count(record.object_id, partition)))


@queue.command(no_args_is_help=True)
@click.argument("name")
@click.argument("n", type=click.IntRange(1), default=1)
@partition_option
@shared.environment
def peek(name: str, n: int, partition: str, environment: str | None) -> None:
    """Show the next N items of a partition, which stay in it. Of a pickled one, its type is shown."""
    from qmodal.client.client import current
    from qmodal.store.objects.sealed import ITEM_NUMBER_BYTES, item_place

    client = current()
    record = shared.find(client, "queue", name, environment)
    place = item_place(record.object_id, partition)
    for signed in client.run(client.queues.peek(record.object_id, partition, count=n)):
        echo(shared.shown(client, place, signed, ITEM_NUMBER_BYTES))


@queue.command(no_args_is_help=True)
@click.argument("name")
@partition_option
@click.option("-a", "--all", "is_all", is_flag=True, help="All partitions.")
@options.yes
@shared.environment
def clear(name: str, partition: str, is_all: bool, yes: bool, environment: str | None) -> None:
    """Remove all items of a partition."""
    from qmodal.client.client import current

    client = current()
    _check_one(partition, "--all", is_all)
    record = shared.find(client, "queue", name, environment)
    if not yes:
        what = "all partitions" if is_all else f"partition {partition!r}"
        confirm(f"Remove all items of {what} of {name}?")
    client.run(client.queues.clear(record.object_id, None if is_all else [partition]))


def _check_one(partition: str, option: str, is_given: bool) -> None:
    if partition and is_given:
        raise InvalidError(f"give either --partition or {option}, not both")


@queue.command(no_args_is_help=True)
@click.argument("name")
@shared.allow_missing
@options.yes
@shared.environment
def delete(name: str, allow_missing: bool, yes: bool, environment: str | None) -> None:
    """Delete a queue with all that is in it; who waits for an item is told."""
    shared.delete("queue", name, environment, is_allowed_missing=allow_missing, is_sure=yes)

"""`qmodal dict`: the dictionaries of an environment, and what is in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from qmodal.cli import options
from qmodal.cli.commands.objects import shared
from qmodal.cli.echo import confirm, echo
from qmodal.exception import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmodal.client.client import Client
    from qmodal.transport.operation import Op


@click.group("dict")
def dict_() -> None:
    """List dictionaries, and read and change what is in them."""


@dict_.command("list")
@options.as_json
@shared.environment
def listing(as_json: bool, environment: str | None) -> None:
    """List the dictionaries, and how many entries each has."""
    columns = {"entries": str}
    shared.list_objects("dict", environment, columns, _counted, as_json=as_json)


def _counted(client: Client, object_id: str) -> Op[dict[str, int]]:
    return {"entries": (yield from client.dicts.count(object_id))}


@dict_.command(no_args_is_help=True)
@click.argument("name")
@shared.environment
def create(name: str, environment: str | None) -> None:
    """Make a dictionary, unless there is one of that name."""
    shared.create("dict", name, environment)


@dict_.command(no_args_is_help=True)
@click.argument("name")
@click.argument("key")
@shared.environment
@click.option("--json-key", is_flag=True, help="KEY is JSON, such as 7 for a number.")
def get(name: str, key: str, environment: str | None, json_key: bool) -> None:
    """Show the value of a key. Only plain values can be shown; of a pickled one, its type is."""
    from qmodal.client.client import current
    from qmodal.store.objects.sealed import entry_place, pack_key

    client = current()
    record = shared.find(client, "dict", name, environment)
    packed = pack_key(shared.json_value(key) if json_key else key)
    signed = client.run(client.dicts.get(record.object_id, packed))
    if signed is None:
        raise NotFoundError(f"there is no key {key!r} in {name}")
    echo(shared.shown(client, entry_place(record.object_id, packed), signed))


@dict_.command(no_args_is_help=True)
@click.argument("name")
@click.argument("key")
@click.argument("value")
@shared.environment
@click.option("--json", "as_json", is_flag=True, help="VALUE is JSON; else it is text.")
def put(name: str, key: str, value: str, environment: str | None, as_json: bool) -> None:
    """Put a value under a key, both text."""
    from qmodal.client.client import current
    from qmodal.store.objects.sealed import entry_place, pack_key, plain_body
    from qmodal.wire.plain import pack

    client = current()
    record = shared.find(client, "dict", name, environment)
    packed = pack_key(key)
    body = plain_body(pack(shared.json_value(value) if as_json else value))
    signed = client.signer.sign_at(entry_place(record.object_id, packed), body)
    client.run(client.dicts.put(record.object_id, (packed, signed)))


@dict_.command(no_args_is_help=True)
@click.argument("name")
@click.argument("n", type=click.IntRange(0), default=20)
@click.option("-a", "--all", "is_all", is_flag=True, help="All entries, not only N.")
@options.as_json
@shared.environment
def items(name: str, n: int, is_all: bool, as_json: bool, environment: str | None) -> None:
    """Show N entries of a dictionary, in no order."""
    from qmodal.client.client import current

    client = current()
    record = shared.find(client, "dict", name, environment)
    rows: list[dict[str, str]] = []
    for key, value in _entries(client, record.object_id):
        if not is_all and len(rows) >= n:
            break
        rows.append({"key": key, "value": value})
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        echo(f"{row['key']}: {row['value']}")


def _entries(client: Client, object_id: str) -> Iterator[tuple[str, str]]:
    from qmodal.store.objects.sealed import entry_place

    cursor, keys, seen = b"", list[bytes](), set[bytes]()
    while keys or cursor != b"0":
        if not keys:
            cursor, found = client.run(client.dicts.scan(object_id, cursor or b"0"))
            keys = [key for key in dict.fromkeys(found) if key not in seen]
            seen.update(keys)
            continue
        read = client.run(client.dicts.read(object_id, keys))
        keys = keys[len(read) :]
        for key, signed in read:
            if signed:
                yield _key(key), shared.shown(client, entry_place(object_id, key), signed)


def _key(packed: bytes) -> str:
    from qmodal.exception import Error
    from qmodal.store.objects.sealed import unpack_key

    try:
        key: Any = unpack_key(packed)
    except Error:
        return f"<no key of ours: {packed[:40]!r}>"
    return repr(key)


@dict_.command(no_args_is_help=True)
@click.argument("name")
@options.yes
@shared.environment
def clear(name: str, yes: bool, environment: str | None) -> None:
    """Remove all entries of a dictionary."""
    from qmodal.client.client import current

    client = current()
    record = shared.find(client, "dict", name, environment)
    if not yes:
        confirm(f"Remove all entries of {name}?")
    client.run(client.dicts.clear(record.object_id))


@dict_.command(no_args_is_help=True)
@click.argument("name")
@shared.allow_missing
@options.yes
@shared.environment
def delete(name: str, allow_missing: bool, yes: bool, environment: str | None) -> None:
    """Delete a dictionary with all that is in it."""
    shared.delete("dict", name, environment, is_allowed_missing=allow_missing, is_sure=yes)

"""What the commands for dictionaries and queues have in common: finding an object, listing, and showing values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from qmodal.cli.echo import confirm, echo
from qmodal.cli.tables import Columns, age, show
from qmodal.client.client import Client
from qmodal.exception import Error, NotFoundError
from qmodal.spec.names import check_name
from qmodal.store.objects.names import ObjectKind, ObjectRecord
from qmodal.store.objects.sealed import parsed
from qmodal.store.server import server_ms
from qmodal.transport.operation import Op
from qmodal.wire.plain import unpack

LABELS: dict[ObjectKind, str] = {"dict": "Dict", "queue": "Queue"}
environment = click.option(
    "-e", "--env", "environment", help="The environment, by default that of the settings."
)
allow_missing = click.option("--allow-missing", is_flag=True, help="It may be gone already.")
Count = Callable[[Client, str], Op[dict[str, int]]]


def find(client: Client, kind: ObjectKind, name: str, environment: str | None) -> ObjectRecord:
    """The object of that name; raises NotFoundError."""
    check_name(LABELS[kind], name)
    where = environment or client.settings.environment
    record = client.run(client.object_names.find(kind, where, name))
    if record is None:
        raise NotFoundError(
            f"there is no {LABELS[kind]} {name!r} in environment {where!r}; `qmodal {kind} list` shows them."
        )
    return record


def create(kind: ObjectKind, name: str, environment: str | None) -> None:
    """Make an object, and say so."""
    from qmodal.client.client import current

    client = current()
    check_name(LABELS[kind], name)
    where = environment or client.settings.environment
    record, is_new = client.run(client.object_names.create(kind, where, name))
    echo(f"{'Created' if is_new else 'There is'} {name} ({record.object_id})")


def list_objects(
    kind: ObjectKind, environment: str | None, columns: Columns, count: Count, *, as_json: bool
) -> None:
    """Print the objects of an environment; `count` gives the further columns of one."""
    from qmodal.client.client import current

    client = current()
    where = environment or client.settings.environment
    now = client.run(server_ms())
    rows: list[dict[str, Any]] = []
    for record in client.run(client.object_names.listed(kind, where)):
        try:
            counted = client.run(count(client, record.object_id))
        except NotFoundError:  # deleted just now
            continue
        since = round(max(0.0, now - record.created / 1000) / 1000, 3)
        rows.append({"name": record.name, "id": record.object_id, "age": since, **counted})
    show(rows, {"name": str, "id": str, "age": age, **columns}, as_json=as_json)


def delete(
    kind: ObjectKind, name: str, environment: str | None, *, is_allowed_missing: bool, is_sure: bool
) -> None:
    """Delete an object with what is in it, once that is confirmed."""
    from qmodal.client.client import current

    client = current()
    try:
        record = find(client, kind, name, environment)
    except NotFoundError:
        if not is_allowed_missing:
            raise
        return
    if not is_sure:
        confirm(f"Delete {LABELS[kind]} {name} with all that is in it?")
    store = client.dicts if kind == "dict" else client.queues
    client.run(store.delete(record.object_id))
    client.run(client.object_names.forget(record))
    echo(f"Deleted {name} ({record.object_id})")


def shown(client: Client, place: bytes, signed: bytes, skipped: int = 0) -> str:
    """A value as text: a plain one as Python spells it, of a pickled one its type, and why if it is neither.

    `skipped`: so many of the signed bytes stand before the value.
    """
    try:
        body = client.signer.verify_at(place, signed)[skipped:]
        pickled = parsed(body)
        if pickled is None:
            return repr(unpack(body[1:]))
    except Error as error:
        return f"<not written by qmodal with this key, or moved here: {error}>"
    return f"<a pickled {pickled.type}, {len(pickled.payload)} bytes: only programs open it>"


def json_value(text: str) -> Any:
    """The value of a text in JSON; a usage error says what is wrong."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{text!r:.60} is no JSON: {error}") from None

"""ObjectManager: `Dict.objects` and `Queue.objects`, which create, list and delete objects by name."""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Any, Generic, TypeVar

from qmodal.client.client import Client, current
from qmodal.client.verb import verb
from qmodal.exception import AlreadyExistsError
from qmodal.resources.stored import StoredObject, missing, newest
from qmodal.spec.names import check_name
from qmodal.store.objects.names import ObjectKind, ObjectRecord
from qmodal.transport.operation import Op

T = TypeVar("T", bound=StoredObject)


class ObjectManager(Generic[T]):
    """The objects of one kind in an environment, by default that of the settings.

    >>> qmodal.Dict.objects.create("prices", allow_existing=True)
    >>> [each.name for each in qmodal.Dict.objects.list()]
    ['prices']
    """

    def __get__(self, instance: T | None, owner: type[T]) -> BoundManager[T]:
        return BoundManager(owner)


class BoundManager(Generic[T]):
    """The manager of a class."""

    __slots__ = ("_class",)

    def __init__(self, owner: type[T]) -> None:
        self._class = owner

    @verb
    def create(
        self,
        name: str,
        *,
        allow_existing: bool = False,
        environment_name: str | None = None,
        client: Any = None,
    ) -> Op[None]:
        """Make an object; raises AlreadyExistsError if there is one of that name, unless that is allowed."""
        check_name(self._class.__name__, name)
        here = current()
        environment = environment_name or here.settings.environment
        _, is_new = yield from here.object_names.create(self._class._kind, environment, name)
        if not is_new and not allow_existing:
            raise AlreadyExistsError(
                f"{self._class.__name__} '{name}' already exists in environment '{environment}'."
            )

    @verb
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str = "",
        client: Any = None,
    ) -> Op[builtins.list[T]]:
        """Handles of the objects with names, the newest first, at most so many, made before a date if one is given."""
        here = current()
        environment = environment_name or here.settings.environment
        records = yield from here.object_names.listed(self._class._kind, environment)
        found = newest(records, max_objects, created_before)
        return [self._class._handle(each.object_id, each.name, environment) for each in found]

    @verb
    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        environment_name: str | None = None,
        client: Any = None,
    ) -> Op[None]:
        """Delete an object with all that is in it; NotFoundError if there is none of that name, unless that is allowed.

        Whoever still has a handle of it gets NotFoundError, also when a new one is made of the same name.
        """
        check_name(self._class.__name__, name)
        here = current()
        environment = environment_name or here.settings.environment
        record = yield from here.object_names.find(self._class._kind, environment, name)
        if record is not None:
            yield from delete(here, record)
        elif not allow_missing:
            raise missing(self._class.__name__, name, environment)


def delete(client: Client, record: ObjectRecord) -> Op[None]:
    """Delete an object: its keys, then its name."""
    yield from remove(client, record.kind, record.object_id)
    if record.name is not None:
        yield from client.object_names.forget(record)


def remove(client: Client, kind: ObjectKind, object_id: str) -> Op[None]:
    """Delete an object's keys."""
    store = client.dicts if kind == "dict" else client.queues
    yield from store.delete(object_id)

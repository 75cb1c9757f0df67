"""StoredObject: the handle of what is kept by name on the server; found on first use, and able to travel."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn, Protocol, Self, TypeVar

from qmodal.client.client import current, known
from qmodal.exception import InvalidError, NotFoundError
from qmodal.spec.names import check_name
from qmodal.store.objects.names import ID_PREFIXES, ObjectKind, ObjectRecord
from qmodal.transport.operation import Op
from qmodal.wire.ids import is_object_id


class Record(Protocol):
    """What is known of something that is kept by name; `created` is in microseconds since 1970."""

    @property
    def created(self) -> int: ...


Made = TypeVar("Made", bound=Record)


class StoredObject:
    """A handle: it knows a name or an id, and asks the server only when it is used."""

    __slots__ = ("_create", "_environment", "_id", "_name")
    _kind: ClassVar[ObjectKind]
    _id: str | None
    _name: str | None
    _environment: str | None
    _create: bool

    def __init__(self) -> None:
        name = type(self).__name__
        raise RuntimeError(
            f"Class {name} has no constructor; use `{name}.from_name` or `{name}.ephemeral`."
        )

    @classmethod
    def _handle(
        cls,
        object_id: str | None,
        name: str | None,
        environment: str | None = None,
        *,
        create: bool = False,
    ) -> Self:
        made = cls.__new__(cls)
        made._id, made._name, made._environment, made._create = object_id, name, environment, create
        return made

    @classmethod
    def _named(cls, name: str, environment: str | None, *, create: bool) -> Self:
        check_name(cls.__name__, name)
        return cls._handle(None, name, environment, create=create)

    @classmethod
    def _identified(cls, object_id: str) -> Self:
        prefix = ID_PREFIXES[cls._kind]
        if not is_object_id(object_id, prefix):
            raise InvalidError(
                f"{object_id!r} is not the id of a {cls.__name__}; they begin with {prefix}-"
            )
        return cls._handle(object_id, None)

    @classmethod
    def lookup(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Gone: use `from_name`."""
        raise AttributeError(f"{cls.__name__}.lookup does not exist any more: use from_name")

    def __repr__(self) -> str:
        kind = type(self).__name__
        if self._name is not None:
            return f"{kind}.from_name({self._name!r})"
        return f"{kind}.from_id({self._id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        environment = self._environment
        if self._id is None and environment is None and (client := known()) is not None:
            environment = client.settings.environment
        return _rebuilt, (type(self), self._id, self._name, environment, self._create)

    @property
    def name(self) -> str | None:
        """The name that it was looked up by, if any."""
        return self._name

    @property
    def object_id(self) -> str:
        """Its id; AttributeError before hydration."""
        if self._id is None:
            raise AttributeError(f"{self!r} is not hydrated, so it has no object_id yet")
        return self._id

    def _hydrated(self) -> Op[Self]:
        """The handle itself, once it is known that the object is there; raises NotFoundError."""
        if self._id is None:
            yield from self._find()
        else:
            yield from self._record()
        return self

    def _find(self) -> Op[str]:
        """The id, looked up by name."""
        client, name, kind = current(), self._name, type(self).__name__
        assert name is not None
        environment = self._environment or client.settings.environment
        if self._create:
            found, _ = yield from client.object_names.create(self._kind, environment, name)
            self._id = found.object_id
            return found.object_id
        record = yield from client.object_names.find(self._kind, environment, name)
        if record is None:
            raise missing(kind, name, environment)
        self._id = record.object_id
        return record.object_id

    def _record(self) -> Op[ObjectRecord]:
        """What the server knows of it."""
        object_id = self._id or (yield from self._find())
        record = yield from current().object_names.by_id(object_id)
        if record is None:
            raise NotFoundError(f"{type(self).__name__} with id '{object_id}' not found.")
        self._name = record.name
        return record


def missing(kind: str, name: str, environment: str) -> NotFoundError:
    """The error for a name that leads to nothing."""
    return NotFoundError(
        f"{kind} '{name}' not found in environment '{environment}'. Pass `create_if_missing=True`, or make it "
        f"with `qmodal {kind.lower()} create {name}`."
    )


def newest(
    records: Sequence[Made], most: int | None, before: datetime | str | None
) -> Sequence[Made]:
    """The first of the records, at most so many, made before a date or a text in ISO 8601; raises InvalidError.

    A date without a zone is one of this machine's, as `datetime` has it.
    """
    if most is not None and most < 0:
        raise InvalidError("max_objects cannot be negative")
    try:
        moment = datetime.fromisoformat(before) if isinstance(before, str) else before
    except ValueError:
        raise InvalidError(
            f"created_before is {before!r}; it may be a datetime or text such as 2026-01-31T12:00"
        ) from None
    if moment is not None:
        micros = moment.timestamp() * 1_000_000
        records = [each for each in records if each.created < micros]
    return records[:most]


def created_at(record: ObjectRecord) -> datetime:
    """When it was made, in UTC."""
    return datetime.fromtimestamp(record.created / 1_000_000, UTC)


def _rebuilt(
    kind: type[StoredObject],
    object_id: str | None,
    name: str | None,
    environment: str | None,
    create: bool,
) -> StoredObject:
    return kind._handle(object_id, name, environment, create=create)

"""Names of objects: which object a name leads to, and the signed record of each.

The names of an installation lie together and the keys of an object on a shard of its own, so that no script
can change both. An object is therefore made for a minute, then named, then kept; and its keys go before its
name does. Whoever dies in between leaves an object that ends by itself, or a name that leads to nothing,
which counts as none and is taken over by the next object.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import Literal, NamedTuple

import msgpack

from qmodal.exception import Error
from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.store.server import server_ms
from qmodal.transport.defects import skip
from qmodal.transport.operation import Command, Op, ask, ask_one
from qmodal.transport.script import script
from qmodal.wire.envelope import SHAPE, MalformedError, kinds, unpack_fields
from qmodal.wire.ids import new_object_id
from qmodal.wire.signing import Signer

ObjectKind = Literal["dict", "queue"]
ID_PREFIXES: dict[ObjectKind, str] = {"dict": "di", "queue": "qu"}
# An ephemeral object lasts so long after the last sign of life of its owner.
EPHEMERAL_MS, PROLONG_SECONDS = 120_000, 20.0
_UNNAMED_MS = 60_000
_KINDS = kinds(str, str, str, (str, NoneType), int)
_PLACE = b"record "


class ObjectRecord(NamedTuple):
    """What an object is; `name` is None for an ephemeral one, `created` in µs since 1970."""

    kind: ObjectKind
    object_id: str
    environment: str
    name: str | None
    created: int

    def seal(self, signer: Signer) -> bytes:
        """The signed bytes."""
        return signer.sign_at(_PLACE, msgpack.packb((SHAPE, *self)))


def open_record(data: bytes, signer: Signer) -> ObjectRecord:
    """Verify, then decode; raises BadSignatureError, UnknownKeyError or MalformedError."""
    kind, *fields = unpack_fields(signer.verify_at(_PLACE, data), _KINDS)
    if kind not in ID_PREFIXES:
        raise MalformedError(f"unknown kind of object {kind!r}")
    return ObjectRecord(kind, *fields)


@dataclass(frozen=True, slots=True)
class ObjectNames:
    """Operations on names, and on the records of objects."""

    keys: Keys
    signer: Signer

    def find(self, kind: ObjectKind, environment: str, name: str) -> Op[ObjectRecord | None]:
        """The object of that name; None if there is none. Raises InternalFailure for a record that is not ours."""
        _, found = yield from self._look_up(kind, environment, name)
        return found

    def create(
        self, kind: ObjectKind, environment: str, name: str
    ) -> Op[tuple[ObjectRecord, bool]]:
        """The object of that name, and whether it was made just now."""
        title = f"{environment}/{name}"
        while True:
            before, found = yield from self._look_up(kind, environment, name)
            if found is not None:
                return found, False
            made, signed = yield from self._make(kind, environment, name, _UNNAMED_MS, life=0)
            winner = yield from ask_one(*self.name_command(kind, title, before, signed))
            if winner == signed:
                yield from ask_one(b"PERSIST", self.keys.object(made.object_id))
                return made, True
            yield from ask_one(b"UNLINK", self.keys.object(made.object_id))

    def create_ephemeral(self, kind: ObjectKind, environment: str) -> Op[ObjectRecord]:
        """An object without a name, which lasts for EPHEMERAL_MS unless it is prolonged."""
        made, _ = yield from self._make(kind, environment, None, EPHEMERAL_MS, life=EPHEMERAL_MS)
        return made

    def by_id(self, object_id: str) -> Op[ObjectRecord | None]:
        """The object's record; None if it is gone. Raises InternalFailure for one that is not ours."""
        key = self.keys.object(object_id)
        signed = yield from ask_one(b"HGET", key, b"record")
        if signed is None:
            return None
        record = self._open(signed, key)
        if record.object_id != object_id:
            raise reading.unreadable(key, "it is another object's")
        return record

    def listed(self, kind: ObjectKind, environment: str) -> Op[list[ObjectRecord]]:
        """The objects with names in that environment, the newest first."""
        key = self.keys.names(kind)
        found = []
        for title, signed in reading.pairs((yield from ask_one(b"HGETALL", key))):
            try:
                record = open_record(signed, self.signer)
            except Error as error:
                skip(f"{title!r:.90} in {key}", str(error))
                continue
            is_its_own = f"{record.environment}/{record.name}".encode() == title
            if is_its_own and record.environment == environment:
                found.append(record)
        there = yield from self._are_there([record.object_id for record in found])
        living = [record for record, is_there in zip(found, there, strict=True) if is_there]
        return sorted(living, key=lambda record: (-record.created, record.name or ""))

    def forget(self, record: ObjectRecord) -> Op[None]:
        """Let the name lead nowhere, if it leads to that object, whose keys are gone."""
        title = f"{record.environment}/{record.name}"
        signed = record.seal(self.signer)
        yield from ask_one(*self.name_command(record.kind, title, signed, b""))

    def _make(
        self, kind: ObjectKind, environment: str, name: str | None, ttl: int, *, life: int
    ) -> Op[tuple[ObjectRecord, bytes]]:
        now = yield from server_ms()
        object_id = new_object_id(ID_PREFIXES[kind])
        record = ObjectRecord(kind, object_id, environment, name, round(now * 1000))
        signed = record.seal(self.signer)
        yield from ask_one(*self.make_command(object_id, signed, ttl=ttl, life=life))
        return record, signed

    def make_command(self, object_id: str, signed: bytes, *, ttl: int, life: int) -> Command:
        """What makes an object for `ttl` ms."""
        return script("make_object").command((self.keys.object(object_id),), (signed, life, ttl))

    def name_command(self, kind: ObjectKind, title: str, before: bytes, after: bytes) -> Command:
        """What has a name lead to another record, if it leads to `before`; empty: to none."""
        return script("name_object").command((self.keys.names(kind),), (title, before, after))

    def _look_up(
        self, kind: ObjectKind, environment: str, name: str
    ) -> Op[tuple[bytes, ObjectRecord | None]]:
        """What the name has, and the object if it leads to one."""
        key, title = self.keys.names(kind), f"{environment}/{name}"
        signed = yield from ask_one(b"HGET", key, title)
        if signed is None:
            return b"", None
        record = self._open(signed, key)
        if (record.kind, record.environment, record.name) != (kind, environment, name):
            raise reading.unreadable(key, f"what is at {title} belongs elsewhere")
        object_key = self.keys.object(record.object_id)
        # Whoever made it may have died before it was kept.
        replies = yield from ask((b"PERSIST", object_key), (b"EXISTS", object_key))
        return signed, record if replies[1] else None

    def _open(self, signed: bytes, key: str) -> ObjectRecord:
        try:
            return open_record(signed, self.signer)
        except Error as error:
            raise reading.unreadable(key, error) from error

    def _are_there(self, ids: list[str]) -> Op[list[bool]]:
        if not ids:
            return []
        replies = yield from ask(*((b"EXISTS", self.keys.object(each)) for each in ids))
        return [reply == 1 for reply in replies]

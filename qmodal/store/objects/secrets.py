"""Secrets: variables that are kept by name, signed as a whole, their values sealed with the signing key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from qmodal.exception import Error, InternalFailure
from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.store.server import server_ms
from qmodal.transport.defects import skip
from qmodal.transport.operation import Command, Op, ask, ask_one
from qmodal.transport.script import script
from qmodal.wire.envelope import SHAPE, kinds, unpack_fields
from qmodal.wire.ids import new_secret_id
from qmodal.wire.signing import STORED, Signer

_PURPOSE = "code"
_SEALED = "secret"
_KINDS = kinds(str, str, str, str, int, int, list, bytes)
_MOST_TRIES = 20
_KEEP_USED_SECONDS = 30 * 24 * 3600


class StoredSecret(NamedTuple):
    """A secret as it is kept; `keys` are the names of its variables, whose values are in `sealed`.

    `created` and `serial` in µs since 1970: the serial is when it was last changed, and grows with each change.
    """

    environment: str
    name: str
    secret_id: str
    created: int
    serial: int
    keys: tuple[str, ...]
    sealed: bytes

    @property
    def place(self) -> tuple[str, ...]:
        """Where the values were sealed, which is where alone they open."""
        return _place(self.environment, self.name, self.serial)

    def packed(self, signer: Signer) -> bytes:
        """The signed record."""
        return signer.sign(_PURPOSE, msgpack.packb((SHAPE, _SEALED, *self)))


class ForeignSecretError(Error):
    """What stands in the place of a secret was not written with our signing key, or not for that place."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Operations on secrets; those that change one come to the same if they are sent twice."""

    keys: Keys
    signer: Signer

    def find(self, environment: str, name: str) -> Op[StoredSecret | None]:
        """The secret of that name; raises ForeignSecretError for a record that nobody of ours has written."""
        record = yield from self._record(environment, name)
        return None if record is None else self._opened(environment, name, record)

    def create(
        self, environment: str, name: str, variables: Mapping[str, str], *, replace: bool = False
    ) -> Op[bool]:
        """Keep these variables under that name; False, and nothing done, if it is there and not to be replaced."""
        for _ in range(_MOST_TRIES):
            record = yield from self._record(environment, name)
            if record is not None and not replace:
                return False
            before = self._known(environment, name, record)
            if (yield from self._keep(environment, name, variables, before, record)):
                return True
        raise _too_busy(name)

    def change(self, environment: str, name: str, variables: Mapping[str, str]) -> Op[bool]:
        """Set these variables and leave its others as they are; False if there is no such secret."""
        for _ in range(_MOST_TRIES):
            record = yield from self._record(environment, name)
            if record is None:
                return False
            before = self._opened(environment, name, record)
            merged = {**self.signer.open(before.sealed, before.place), **variables}
            if (yield from self._keep(environment, name, merged, before, record)):
                return True
        raise _too_busy(name)

    def delete(self, environment: str, name: str) -> Op[bool]:
        """Forget the secret; False if there was none."""
        field = _field(environment, name)
        deleted, _ = yield from ask(
            (b"HDEL", self.keys.secrets, field), (b"HDEL", self.keys.secrets_used, field)
        )
        return bool(deleted == 1)

    def all(self, environment: str = "") -> Op[list[StoredSecret]]:
        """The secrets of an environment (or of all), the newest first; what is foreign is left out."""
        key, found = self.keys.secrets, []
        for raw, record in reading.pairs((yield from ask_one(b"HGETALL", key))):
            of, _, name = (reading.text(raw, key) or "").partition("/")
            if of != environment and environment:
                continue
            try:
                found.append(self._opened(of, name, record))
            except ForeignSecretError as error:
                skip(key, str(error))
        return sorted(found, key=lambda each: (-each.created, each.environment, each.name))

    def note_used(self, used: Collection[StoredSecret]) -> Op[None]:
        """Note that a container starts with these."""
        now = str((yield from _server_us()))
        noted = [part for each in used for part in (_field(each.environment, each.name), now)]
        key = self.keys.secrets_used
        yield from ask((b"HSET", key, *noted), (b"EXPIRE", key, _KEEP_USED_SECONDS))

    def last_used(self, found: Collection[StoredSecret]) -> Op[list[int | None]]:
        """When a container was last started with each, in µs since 1970."""
        if not found:
            return []
        fields = [_field(each.environment, each.name) for each in found]
        replies = yield from ask_one(b"HMGET", self.keys.secrets_used, *fields)
        times = [reading.whole(reply) for reply in replies]
        # What was noted before it was made is of one that was deleted.
        return [
            at if at and at >= each.created else None for at, each in zip(times, found, strict=True)
        ]

    def _record(self, environment: str, name: str) -> Op[bytes | None]:
        reply: Any = yield from ask_one(b"HGET", self.keys.secrets, _field(environment, name))
        return reply if isinstance(reply, bytes) else None

    def _keep(
        self,
        environment: str,
        name: str,
        variables: Mapping[str, str],
        before: StoredSecret | None,
        record: bytes | None,
    ) -> Op[bool]:
        """Write it, if the record is still the one that was there `before`; False if it is not."""
        now = yield from _server_us()
        serial = now if before is None else max(now, before.serial + 1)
        secret = StoredSecret(
            environment,
            name,
            new_secret_id() if before is None else before.secret_id,
            now if before is None else before.created,
            serial,
            tuple(sorted(variables)),
            self.signer.seal(variables, _place(environment, name, serial)),
        )
        return bool((yield from ask_one(*self.keep_command(secret, record or b""))) == 1)

    def keep_command(self, secret: StoredSecret, before: bytes) -> Command:
        """Keep that secret, if the record there is still the one before (empty: none)."""
        field = _field(secret.environment, secret.name)
        return script("keep_secret").command(
            (self.keys.secrets,), (field, before, secret.packed(self.signer))
        )

    def _known(self, environment: str, name: str, record: bytes | None) -> StoredSecret | None:
        """What is to be replaced; None also for what is foreign, which gives way to anything."""
        try:
            return None if record is None else self._opened(environment, name, record)
        except ForeignSecretError:
            return None

    def _opened(self, environment: str, name: str, record: bytes) -> StoredSecret:
        try:
            what, *fields = unpack_fields(self.signer.verify(_PURPOSE, record), _KINDS)
        except Error as error:
            raise _foreign(environment, name, str(error)) from None
        secret = StoredSecret._make(fields)._replace(keys=tuple(fields[5]))
        if (what, secret.environment, secret.name) != (_SEALED, environment, name):
            raise _foreign(environment, name, "it is another one's")
        return secret


def _server_us() -> Op[int]:
    """The server's clock, so that secrets that were made one after another have an order."""
    return round((yield from server_ms()) * 1000)


def _field(environment: str, name: str) -> str:
    return f"{environment}/{name}"


def _place(environment: str, name: str, serial: int) -> tuple[str, ...]:
    return (STORED, environment, name, str(serial))


def _foreign(environment: str, name: str, why: str) -> ForeignSecretError:
    return ForeignSecretError(
        f"the secret {name!r} of environment {environment!r} was written by something else than qmodal, or with "
        f"another signing key ({why}). Store it anew: `qmodal secret create {name} KEY=VALUE --force`."
    )


def _too_busy(name: str) -> InternalFailure:
    return InternalFailure(f"others were always faster in changing the secret {name!r}; try again")

"""Reads the signed documents of a server: each is verified, and is the one that was asked for.

Whoever can write to the server can copy a document to another place. A signature says who has made it,
not where it belongs: an earlier version of an app, or another app's, has a good one, too. And what has no
signature, the table of names and the records of apps, is only a hint where to look: the version says whether it
is of the app that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from qmodal.exception import Error
from qmodal.spec.documents import PoolSpec, Version, open_pool_spec, open_version
from qmodal.transport.operation import Op
from qmodal.wire.publishing import Publisher
from qmodal.wire.signing import Signer

D = TypeVar("D", PoolSpec, Version)


class MismatchError(Error):
    """A signed document stands where another one belongs."""


class Record(Protocol):
    """What the server notes of an app; nobody has signed it."""

    @property
    def app_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def environment(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def version(self) -> int: ...


class Apps(Protocol):
    """How names, records and versions are fetched."""

    def find(self, environment: str, name: str) -> Op[str | None]:
        """The id that a name leads to."""
        ...

    def record(self, app_id: str) -> Op[Record | None]:
        """The app's record."""
        ...

    def version(self, app_id: str, number: int) -> Op[bytes | None]:
        """The signed document of one version."""
        ...


@dataclass(frozen=True, slots=True)
class Verified(Generic[D]):
    """What a document says, and its bytes as they were signed with the signing key."""

    value: D
    signed: bytes


@dataclass(frozen=True, slots=True)
class SpecReader:
    """Reads the specs of pools, whose signed bytes `fetch_spec` fetches, and the versions of apps.

    `names` is the key of the table of names, for people.

    Each method raises MismatchError, BadSignatureError, UnknownKeyError or MalformedError for what cannot be
    trusted, and returns None for what is not there.
    """

    fetch_spec: Callable[[str], Op[bytes | None]]
    apps: Apps
    names: str
    signer: Signer
    publisher: Publisher

    def pool(self, pool: str) -> Op[Verified[PoolSpec] | None]:
        """The spec of the pool of that id."""
        signed = yield from self.fetch_spec(pool)
        if signed is None:
            return None
        return Verified(verified_pool(signed, self.signer, pool), signed)

    def version(self, app_id: str, number: int) -> Op[Verified[Version] | None]:
        """That version of the app, whatever the app is called."""
        published = yield from self.apps.version(app_id, number)
        if published is None:
            return None
        signed = self.publisher.verify(published)
        return Verified(verified_version(signed, self.signer, app_id, number), signed)

    def of_record(self, record: Record, number: int = 0) -> Op[Verified[Version] | None]:
        """The version that is current by the record, or version `number`, of the app that the record names."""
        found = yield from self.version(record.app_id, number or record.version)
        if found is not None:
            check_version_of(found.value, record)
        return found

    def deployed(self, environment: str, name: str) -> Op[Verified[Version] | None]:
        """The current version of the app that is deployed under that name."""
        app_id = yield from self.apps.find(environment, name)
        record = None if app_id is None else (yield from self.apps.record(app_id))
        if record is None or record.state == "stopped":
            return None
        self.check_title(record, environment, name)
        return (yield from self.of_record(record))

    def check_title(self, record: Record, environment: str, name: str) -> None:
        """Raise MismatchError unless the record, to which a name led, is of an app of that name which is not ephemeral.

        It is not signed: what its version says has to be compared with it, too.
        """
        if record.state not in ("deployed", "stopped") or not _is_of(record, environment, name):
            raise MismatchError(
                f"the name {name!r} of environment {environment!r} leads to {record.app_id}, which is the "
                f"{record.state} app {record.name!r} of environment {record.environment!r}: it was changed by "
                f"something else than qmodal. Forget it with `HDEL {self.names} "
                f"{environment}/{name}`, and deploy {name!r} again."
            )


def verified_pool(signed: bytes, signer: Signer, pool: str) -> PoolSpec:
    """The spec in the signed bytes; raises as SpecReader does unless it is that pool's."""
    spec = open_pool_spec(signed, signer)
    if spec.pool != pool:
        raise MismatchError(
            f"pool {pool} is described as another one, {spec.label or spec.function} [{spec.pool}]: its "
            "record was changed by something else than qmodal."
        )
    return spec


def verified_version(signed: bytes, signer: Signer, app_id: str, number: int) -> Version:
    """The version in the signed bytes; raises as SpecReader does unless it is that one of the app."""
    version = open_version(signed, signer)
    if (version.app_id, version.number) != (app_id, number):
        raise _another(version, app_id, number)
    return version


def version_for(signed: bytes, signer: Signer, spec: PoolSpec) -> Version:
    """The version in the signed bytes; raises as SpecReader does unless the pool may run it."""
    version = open_version(signed, signer)
    check_version_for(version, spec)
    return version


def check_version_for(version: Version, spec: PoolSpec) -> None:
    """Raise MismatchError unless containers of the pool may run that version."""
    if version.app_id != spec.app_id or spec.number not in (0, version.number):
        raise _another(version, spec.app_id, spec.number)


def check_version_of(version: Version, record: Record) -> None:
    """Raise MismatchError unless the version is of an app of the record's name, environment and kind.

    An earlier version of an ephemeral app may have another name: that of a served one changes with its file.
    """
    is_ephemeral = record.state != "deployed"
    is_renamed = is_ephemeral and version.number != record.version
    name = version.name if is_renamed else record.name
    is_of = version.app_id == record.app_id and _is_of(version, record.environment, name)
    if not is_of or version.is_ephemeral != is_ephemeral:
        kind = "an ephemeral" if version.is_ephemeral else "a deployed"
        raise MismatchError(
            f"the {record.state} app {record.name!r} of environment {record.environment!r} ({record.app_id}) has a "
            f"version of {kind} app {version.name!r} of {version.environment!r} ({version.app_id}): names or "
            "records were changed by something else than qmodal. Look with `qmodal app list`, and deploy the "
            "app again."
        )


def _is_of(about: Record | Version, environment: str, name: str) -> bool:
    return (about.environment, about.name) == (environment, name)


def _another(version: Version, app_id: str, number: int) -> MismatchError:
    return MismatchError(
        f"version {number or 'now current'} of app {app_id} is given as version {version.number} of "
        f"{version.name!r} ({version.app_id}): it was changed by something else than qmodal. Deploy the app again."
    )

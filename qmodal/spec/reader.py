"""Reads the signed documents of a server: each is verified, and is the one that was asked for.

Whoever can write to the server can copy a document to another place. A signature says who has made it,
not where it belongs: an earlier version of an app, or another app's, has a good one, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from qmodal.exception import Error
from qmodal.spec.documents import PoolSpec, Version, open_pool_spec, open_version
from qmodal.transport.operation import Op
from qmodal.wire.signing import Signer

D = TypeVar("D", PoolSpec, Version)


class MismatchError(Error):
    """A signed document stands where another one belongs."""


@dataclass(frozen=True, slots=True)
class Verified(Generic[D]):
    """What a document says, and its signed bytes."""

    value: D
    signed: bytes


@dataclass(frozen=True, slots=True)
class SpecReader:
    """Reads the specs of pools and the versions of apps, whose signed bytes the two functions fetch.

    Each method raises MismatchError, BadSignatureError, UnknownKeyError or MalformedError for what cannot be
    trusted, and returns None for what is not there.
    """

    fetch_spec: Callable[[str], Op[bytes | None]]
    fetch_version: Callable[[str, int], Op[bytes | None]]
    signer: Signer

    def pool(self, pool: str) -> Op[Verified[PoolSpec] | None]:
        """The spec of the pool of that id."""
        signed = yield from self.fetch_spec(pool)
        if signed is None:
            return None
        return Verified(verified_pool(signed, self.signer, pool), signed)

    def version(self, app_id: str, number: int) -> Op[Verified[Version] | None]:
        """That version of the app."""
        signed = yield from self.fetch_version(app_id, number)
        if signed is None:
            return None
        return Verified(verified_version(signed, self.signer, app_id, number), signed)


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


def _another(version: Version, app_id: str, number: int) -> MismatchError:
    return MismatchError(
        f"version {number or 'now current'} of app {app_id} is given as version {version.number} of "
        f"{version.name!r} ({version.app_id}): it was changed by something else than qmodal. Deploy the app again."
    )

"""The history of a deployed app: its past versions, and rolling back to one of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from qmodal.client.client import Client
from qmodal.exception import InternalFailure, InvalidError, NotFoundError
from qmodal.runner.publish import MOST_TRIES, document_of, publish_routes
from qmodal.spec.documents import Version
from qmodal.spec.reader import check_version_of, verified_version
from qmodal.store.apps import AppRecord
from qmodal.transport.operation import Op


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVersion:
    """One version; `published` in ms since 1970, `version` None if its document is gone."""

    number: int
    published: int
    version: Version | None


def history(client: Client, record: AppRecord) -> Op[list[PastVersion]]:
    """All versions of an app, the newest first; raises an AuthError for what another key signed."""
    published = yield from client.apps.published(record.app_id, record.version)
    releases = []
    for number, (at, signed) in enumerate(published, 1):
        version = None
        if signed:
            signed = client.publisher.verify(signed)
            version = verified_version(signed, client.signer, record.app_id, number)
            check_version_of(version, record)
        releases.append(PastVersion(number=number, published=at, version=version))
    return releases[::-1]


def rollback(client: Client, record: AppRecord, number: int) -> Op[Version]:
    """Publish version `number` again, as the next one.

    Raises InvalidError if that is the current one, NotFoundError if it or its code is gone, ConfigurationError if
    this process may not publish.
    """
    client.publisher.check()
    for _ in range(MOST_TRIES):
        if record.state != "deployed":
            raise InvalidError(f"{record.name!r} is not deployed, so it cannot be rolled back.")
        old = yield from _old(client, record, number)
        version = replace(old, number=record.version + 1)
        document = document_of(client, version)
        renewed = replace(record, version=version.number)
        now = time.time_ns() // 1_000_000
        bundle = version.bundle
        publish = client.apps.publish(renewed, document=document, now=now, bundle=bundle)
        if (yield from publish):
            yield from publish_routes(client, version, renewed.state)
            yield from client.fleet.wake()
            return version
        found = yield from client.apps.record(record.app_id)
        record = found or record
    raise InternalFailure(f"other deploys of {record.name!r} were always faster; try again")


def _old(client: Client, record: AppRecord, number: int) -> Op[Version]:
    if number == record.version:
        raise InvalidError(f"version {number} of {record.name!r} is the current one.")
    found = None
    if 0 < number < record.version:
        found = yield from client.specs.of_record(record, number)
    if found is None:
        raise NotFoundError(
            f"{record.name!r} has no version {number} to go back to; `qmodal app history` lists them."
        )
    version = found.value
    if version.bundle and (yield from client.apps.code(version.bundle)) is None:
        raise NotFoundError(
            f"the source of version {number} of {record.name!r} is gone; deploy it again."
        )
    return version

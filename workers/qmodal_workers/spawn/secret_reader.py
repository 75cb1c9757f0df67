"""Reads the stored secrets of containers that start: their values stay sealed, and none comes back from the past."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.spec.documents import Version
from qmodal.spec.variables import NamedSecret, SealedSecret, check_keys, wanted
from qmodal.store.objects.secrets import StoredSecret
from qmodal.transport.defects import survive
from qmodal_workers.spawn.bounded_dict import BoundedDict

# Each start reads the secret; that it was used is written no more often than this.
NOTE_SECONDS = 60.0
Place = tuple[str, str]


class OldSecretError(Error):
    """A secret has become an older one than this worker has seen."""


class SecretReader:
    """Reads secrets by name at each start, so that a change reaches the containers that start after it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: BoundedDict[Place, int] = BoundedDict()
        self._noted: BoundedDict[Place, float] = BoundedDict()

    async def read(self, recorded: Iterable[Any], version: Version) -> tuple[SealedSecret, ...]:
        """The secrets that a function has recorded, in their order; raises Error for one that it cannot have."""
        found, used = [], []
        for secret in wanted(recorded, version.name, version.environment):
            if isinstance(secret, NamedSecret):
                stored = await self._stored(secret)
                used.append(stored)
                secret = SealedSecret(stored.place, stored.keys, stored.sealed)
            found.append(secret)
        await self._note_used(used)
        return tuple(found)

    async def _stored(self, asked: NamedSecret) -> StoredSecret:
        secrets = self._client.secrets
        stored = await self._client.aio(secrets.find(asked.environment, asked.name))
        check_keys(asked, None if stored is None else stored.keys)
        assert stored is not None
        place = (stored.environment, stored.name)
        if stored.serial < self._seen.get(place, 0):
            raise OldSecretError(
                f"the secret {asked.name!r} in environment {asked.environment!r} is an older one than this worker has "
                "seen, so something else than qmodal has put it back. Store it anew: `qmodal secret create "
                f"{asked.name} KEY=VALUE --force`; after a restored backup, restart the worker."
            )
        self._seen[place] = stored.serial
        return stored

    async def _note_used(self, used: Iterable[StoredSecret]) -> None:
        now = time.monotonic()
        due = [
            each
            for each in used
            if now - self._noted.get((each.environment, each.name), -NOTE_SECONDS) >= NOTE_SECONDS
        ]
        if due:
            with survive("noting which secrets are used"):  # of a full server, for example
                await self._client.aio(self._client.secrets.note_used(due))
        for each in due:
            self._noted[each.environment, each.name] = now

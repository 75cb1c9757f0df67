"""The plan of a container's start: its pool's current version, verified, and its source, unpacked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import Error
from qmodal.source.bundle import unpack, unpacked
from qmodal.spec.documents import PoolSpec, Version
from qmodal.spec.options import FunctionOptions
from qmodal.spec.reader import Verified, check_version_of
from qmodal.spec.variables import ContainerVariables, SealedSecret
from qmodal.spec.variant import options_in_force
from qmodal.store.apps import AppRecord
from qmodal_workers.spawn.bounded_dict import BoundedDict
from qmodal_workers.spawn.secret_reader import SecretReader
from qmodal_workers.spawn.seen_versions import SeenVersions


class StartError(Error):
    """Raised when a container cannot be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlan:
    """What a container of a pool is started with; the documents both opened and as they were signed."""

    pool: str
    spec: PoolSpec
    signed_spec: bytes
    version: Version
    signed_version: bytes
    code: str | None  # folder of the unpacked source; None without a bundle
    options: FunctionOptions
    settings: Settings  # of its containers
    secrets: tuple[SealedSecret, ...] = ()

    @property
    def has_snapshot(self) -> bool:
        """Whether the pool's instance is built once, in a template of its own."""
        is_class = self.version.functions[self.spec.function].is_class
        return is_class and self.options.enable_memory_snapshot

    @property
    def variables(self) -> ContainerVariables:
        """Variables that are set before user code is imported; those of its options cannot replace Modal's.

        Lookups by name in a container go to the environment of its app, not to that of its box.
        """
        environment = self.version.environment
        own = {
            **self.options.environ,
            "QMODAL_ENVIRONMENT": environment,
            "MODAL_ENVIRONMENT": environment,
            "MODAL_IS_REMOTE": "1",
            "MODAL_REGION": "self-hosted",
            "MODAL_CLOUD_PROVIDER": "self-hosted",
        }
        return ContainerVariables(image=self.options.image_env, secrets=self.secrets, own=own)


def start_limit(options: FunctionOptions) -> float:
    """Seconds that importing may take; entering may take as long again."""
    return float(options.startup_timeout or options.timeout)


def too_slow(options: FunctionOptions) -> str:
    """The error text of a container that was not ready in time."""
    return (
        f"it was not ready within {start_limit(options):g} s; "
        "raise `startup_timeout` or do less at the start"
    )


class Planner:
    """Makes start plans from documents of the server; each is read and verified once, as it never changes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._specs: BoundedDict[str, Verified[PoolSpec]] = BoundedDict()
        self._versions: BoundedDict[tuple[str, int], Verified[Version]] = BoundedDict()
        self._seen = SeenVersions(client.settings.versions)
        self._secrets = SecretReader(client)

    async def plan(self, pool: str) -> StartPlan:
        """The plan of a start now; raises StartError, or another Error for a document without trust."""
        described = await self._spec(pool)
        spec = described.value
        record = await self._client.aio(self._client.apps.record(spec.app_id))
        if record is None or record.state == "stopped":
            raise StartError(f"app {spec.app_id} has stopped")
        published = await self._version(record, spec.number or record.version)
        version = published.value
        if not spec.number:
            self._seen.admit(version)
        function = version.functions.get(spec.function)
        if function is None:
            raise StartError(
                f"version {version.number} of {version.name!r} has no {spec.function!r}; "
                "deploy it again or stop calling it"
            )
        options = options_in_force(function, spec)
        return StartPlan(
            pool=pool,
            spec=spec,
            signed_spec=described.signed,
            version=version,
            signed_version=published.signed,
            code=await self._code(version),
            options=options,
            settings=replace(self._client.settings, environment=version.environment),
            secrets=await self._secrets.read(options.secrets, version),
        )

    async def _spec(self, pool: str) -> Verified[PoolSpec]:
        if pool not in self._specs:
            spec = await self._client.aio(self._client.specs.pool(pool))
            if spec is None:
                raise StartError(f"pool {pool} is not known any more")
            self._specs[pool] = spec
        return self._specs[pool]

    async def _version(self, record: AppRecord, number: int) -> Verified[Version]:
        key = (record.app_id, number)
        if key not in self._versions:
            version = await self._client.aio(self._client.specs.version(*key))
            if version is None:
                raise StartError(f"version {number} of {record.name!r} is gone")
            self._versions[key] = version
        found = self._versions[key]
        check_version_of(found.value, record)  # each time: the record is not signed
        return found

    async def _code(self, version: Version) -> str | None:
        if version.bundle is None:
            return None
        cache = self._client.settings.code
        folder = unpacked(version.bundle, cache)
        if folder is None:
            content = await self._client.aio(self._client.apps.code(version.bundle))
            if content is None:
                raise StartError(f"the source of {version.name!r} is gone; deploy it again")
            folder = await _in_thread(content, version.bundle, cache)
        return str(folder)


async def _in_thread(content: bytes, digest: str, cache: Path) -> Path:
    try:
        return await asyncio.to_thread(unpack, content, digest, cache)
    except OSError as error:
        raise StartError(f"the source cannot be unpacked to {cache}: {error}") from error

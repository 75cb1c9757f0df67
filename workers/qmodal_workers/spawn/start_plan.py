"""The plan of a container's start: its pool's current version, verified, and its source, unpacked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import Error
from qmodal.source.bundle import unpack, unpacked
from qmodal.spec.documents import PoolSpec, Version
from qmodal.spec.needs.needs import Needs
from qmodal.spec.options import FunctionOptions
from qmodal.spec.reader import Verified, check_version_of
from qmodal.spec.variables import ContainerVariables, SealedSecret
from qmodal.spec.variant import options_in_force
from qmodal.store.apps import AppRecord
from qmodal.transport.sharing.gather import all_of
from qmodal_workers.spawn.bounded_dict import BoundedDict
from qmodal_workers.spawn.secret_reader import SecretReader
from qmodal_workers.spawn.seen_versions import SeenVersions

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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
    region: str = ""  # of this box, if its labels say it
    memory: int | None = None  # bytes that a container of the pool was measured to take
    secrets: tuple[SealedSecret, ...] = ()
    # What hides the GPUs of the box from templates, and from containers that lease none.
    hidden: Mapping[str, str] = field(default_factory=dict)

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
            "MODAL_REGION": self.region or "self-hosted",
            "MODAL_CLOUD_PROVIDER": "self-hosted",
            **self.hidden,
        }
        image = {**_threads(self.options.needs), **self.options.image_env}
        return ContainerVariables(image=image, secrets=self.secrets, own=own)


def _threads(needs: Needs) -> dict[str, str]:
    """How many threads libraries begin in a container that says how many CPUs it needs: not one for each of the box."""
    cpus = needs.cpu_limit or needs.cpu
    return {} if cpus is None else dict.fromkeys(THREAD_VARIABLES, str(max(1, math.ceil(cpus))))


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

    def __init__(
        self, client: Client, region: str = "", hidden: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._region = region
        self._hidden = hidden or {}
        self._specs: BoundedDict[str, Verified[PoolSpec]] = BoundedDict()
        self._versions: BoundedDict[tuple[str, int], Verified[Version]] = BoundedDict()
        self._seen = SeenVersions(client.settings.home / "versions")
        self._secrets = SecretReader(client)

    async def plan(self, pool: str) -> StartPlan:
        """The plan of a start now; raises StartError, or another Error for a document without trust."""
        described = await self._spec(pool)
        spec = described.value
        record, memory = await self._client.aio(
            all_of(self._client.apps.record(spec.app_id), self._client.observing.memory_of(pool))
        )
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
            hidden=self._hidden,
            region=self._region,
            memory=memory,
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

"""What becomes of a box whose GPUs are lost: it offers them no more, and the containers that have them end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from qmodal.client.client import Client
from qmodal.spec.needs.gpus import Gpu
from qmodal.store.fleet import WorkerReport
from qmodal.telemetry.events import GPU_BACK, GPU_LOST, GPU_STRANGE, emit
from qmodal.transport.defects import survive
from qmodal_workers.agent.containers import Container, ContainerTable, Termination
from qmodal_workers.agent.watchdog import Watchdog
from qmodal_workers.devices.leases import GpuLeases
from qmodal_workers.devices.watch import GpuWatch

# What the box offers is looked at so often beside changes that are heard of, and lock files are kept so often.
CHECK_SECONDS, KEEP_SECONDS = 1.0, 3600.0


class GpuKeeper:
    """Keeps the report of a box, and its containers, in step with the state of its GPUs."""

    def __init__(
        self,
        client: Client,
        containers: ContainerTable,
        watchdog: Watchdog,
        *,
        leases: GpuLeases,
        report: Callable[[], WorkerReport],
    ) -> None:
        self._client = client
        self._containers = containers
        self._watchdog = watchdog
        self._watch = leases.watch
        self._leases = leases
        self._report = report
        self._offered = leases.offered()
        self._lost: set[str] = set()
        self._strange: set[str] = set()

    async def watch(self) -> None:
        """Look after every change, and each second, for ever; a box without GPUs has nothing to look at."""
        while True:
            self._watch.changed.clear()
            with survive("keeping the GPUs of the box"):
                self._say()
                self._end_holders()
                await self._renew()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS if self._leases.are_managed else None):
                    await self._watch.changed.wait()

    async def keep_files(self) -> None:
        """Keep the lock files from being tidied away, for ever."""
        while True:
            with survive("keeping the lock files of the GPUs"):
                self._leases.tidy()
            await asyncio.sleep(KEEP_SECONDS)

    def _say(self) -> None:
        lost = set(self._watch.lost)
        about = {gpu.uuid: f"{gpu.kind} {gpu.uuid}" for gpu in self._watch.gpus}
        for uuid in lost - self._lost:
            emit(GPU_LOST, gpu=about[uuid], reason=self._watch.lost[uuid])
        for uuid in self._lost - lost:
            emit(GPU_BACK, gpu=about[uuid])
        self._lost = lost
        strange = set(self._used_by_strangers())
        for uuid in strange - self._strange:
            used = self._watch.figures[uuid].used
            emit(GPU_STRANGE, gpu=about[uuid], used=used)
        self._strange = strange

    def _used_by_strangers(self) -> list[str]:
        return [gpu.uuid for gpu in self._watch.gpus if self._leases.is_strange(gpu.uuid)]

    def _end_holders(self) -> None:
        for container in self._containers.running():
            lost = lost_of(container, self._watch)
            if lost and container.termination is None:
                self._watchdog.kill(container, Termination(lost))

    async def _renew(self) -> None:
        """Say what the box offers now, if that has changed; again in a second where that fails."""
        offered = self._leases.offered()
        if offered != self._offered:
            await self._client.aio(self._client.boxes.describe(self._report()))
            self._offered = offered


def lost_of(container: Container, watch: GpuWatch) -> str:
    """Why the container cannot go on: a GPU that it has is lost; empty if none is."""
    lost = [uuid for uuid in container.report.gpus if uuid in watch.lost]
    return f"GPU {lost[0]} was lost: {watch.lost[lost[0]]}" if lost else ""


def texts(gpus: list[Gpu]) -> tuple[str, ...]:
    """GPUs as the report of a box has them."""
    return tuple(gpu.text for gpu in gpus)

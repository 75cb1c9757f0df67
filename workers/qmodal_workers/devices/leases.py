"""The leases of a box's GPUs: which container has which, each under a lock that its process holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qmodal.exception import Error
from qmodal.spec.needs.gpus import Gpu, GpuNeed
from qmodal.transport.defects import note
from qmodal_workers.devices.fitting import Choice, GpuState, choose
from qmodal_workers.devices.locks import GpuLocks
from qmodal_workers.devices.watch import GpuWatch

# A GPU whose lock somebody else holds is tried again after this.
ELSEWHERE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class GpuLease:
    """What one container has: whole GPUs, or one of `shares` equal shares of one; empty if it needs none.

    `locks`: the descriptors that its process gets; it holds them, and the worker closes its own.
    """

    gpus: tuple[Gpu, ...] = ()
    shares: int = 1
    locks: tuple[int, ...] = ()

    @property
    def uuids(self) -> tuple[str, ...]:
        """The UUIDs of its GPUs."""
        return tuple(gpu.uuid for gpu in self.gpus)

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which CUDA, and programs that start containers, see these GPUs only."""
        uuids = ",".join(self.uuids)
        found = {
            "CUDA_VISIBLE_DEVICES": uuids,
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "NVIDIA_VISIBLE_DEVICES": uuids or "void",
        }
        if self.shares > 1:
            found["QMODAL_GPU_SHARE"] = f"{1 / self.shares:.4g}"
            found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(max(1, 100 // self.shares))
        return found

    def hand_over(self) -> None:
        """Close the worker's descriptors, once the container has its own, or will not start."""
        for fd in self.locks:
            os.close(fd)


class GpuLeases:
    """What the containers of one session of a worker have. What others have, only the locks say.

    All of it happens in the worker's loop, and `lease` does not wait, so that one container after another is served.
    """

    def __init__(self, watch: GpuWatch, locks: GpuLocks | None) -> None:
        self.watch = watch
        self._locks = locks
        self._held: dict[str, GpuLease] = {}
        self._left: dict[str, float] = {}  # when the last container left a GPU
        self._elsewhere: dict[str, float] = {}  # until when it counts as locked by others

    @property
    def are_managed(self) -> bool:
        """Whether the box hands out GPUs, so that a container sees those that are leased to it and no others."""
        return bool(self.watch.gpus)

    @property
    def hidden(self) -> dict[str, str]:
        """The variables that hide the GPUs from whoever has leased none; empty where they are not managed."""
        return GpuLease().variables if self.are_managed else {}

    def offered(self) -> list[Gpu]:
        """The GPUs that are not lost."""
        return [gpu for gpu in self.watch.gpus if gpu.uuid not in self.watch.lost]

    def has(self, needs: Sequence[GpuNeed]) -> bool:
        """Whether a container with these needs could have its GPUs now, as far as this worker knows."""
        return not needs or choose(needs, list(self._states())) is not None

    def lease(self, container: str, needs: Sequence[GpuNeed]) -> GpuLease | None:
        """Lease what the container needs; None if it has to wait for it."""
        if not needs:
            return GpuLease()
        states = list(self._states())
        while (choice := choose(needs, states)) is not None:
            lease, other = self._locked(choice)
            if lease is not None:
                self._held[container] = lease
                return lease
            self._elsewhere[other] = time.monotonic() + ELSEWHERE_SECONDS
            states = [state for state in states if state.gpu.uuid != other]
        return None

    def release(self, container: str) -> None:
        """The container has ended, or has not become a process."""
        lease = self._held.pop(container, None)
        if lease is not None:
            now = time.monotonic()
            self._left |= dict.fromkeys(lease.uuids, now)
            self.watch.hint()

    def holders(self, uuid: str) -> list[str]:
        """The containers that have (a share of) the GPU."""
        return [name for name, lease in self._held.items() if uuid in lease.uuids]

    def shares(self, uuid: str) -> int:
        """In how many shares the GPU is cut; 1 while nobody of this box has one."""
        return next((each.shares for each in self._held.values() if uuid in each.uuids), 1)

    def is_strange(self, uuid: str) -> bool:
        """Whether strangers use the GPU, so that it is not leased."""
        has_left = self._left.get(uuid, 0.0)
        return self.watch.is_used_by_strangers(
            uuid, since=has_left, is_leased=bool(self.holders(uuid))
        )

    def tidy(self) -> None:
        """Keep the lock files from being taken for old ones."""
        if self._locks is not None:
            self._locks.keep(gpu.uuid for gpu in self.watch.gpus)

    def _states(self) -> Iterator[GpuState]:
        now = time.monotonic()
        for gpu in self.watch.gpus:
            leases = [lease for lease in self._held.values() if gpu in lease.gpus]
            yield GpuState(
                gpu=gpu,
                taken=len(leases),
                shares=leases[0].shares if leases else 1,
                is_usable=self._elsewhere.get(gpu.uuid, 0.0) < now
                and self.watch.is_usable(
                    gpu.uuid,
                    since=0.0 if leases else self._left.get(gpu.uuid, 0.0),
                    is_shared=bool(leases),
                ),
            )

    def _locked(self, choice: Choice) -> tuple[GpuLease | None, str]:
        """The choice as a lease, if all of it could be locked; else which of its GPUs others have."""
        locks: list[int] = []
        for gpu in choice.gpus:
            try:
                taken = () if self._locks is None else self._locks.take(gpu.uuid, choice.shares)
            except OSError as error:
                note(f"locking {gpu.uuid}", Error(str(error)))
                taken = ()
            if not taken:
                for fd in locks:
                    os.close(fd)
                return None, gpu.uuid
            locks += taken
        return GpuLease(choice.gpus, choice.shares, tuple(locks)), ""

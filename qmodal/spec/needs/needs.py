"""What one container of a function needs of the box that it runs on."""

from __future__ import annotations

from dataclasses import dataclass

from qmodal.spec.needs.gpus import GpuNeed, gpu_needs

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a container needs: requests, for which a place is found, and limits, which it may not exceed.

    `cpu` in CPUs and `memory` in bytes; None where its function declares none, so that what its containers were
    measured to use counts. `gpus` are alternatives, the best one first. `regions`: labels of which its box has one.
    """

    cpu: float | None = None
    memory: int | None = None
    cpu_limit: float | None = None
    memory_limit: int | None = None
    gpus: tuple[GpuNeed, ...] = ()
    regions: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        cpu: float | tuple[float, ...] | None = None,
        memory: int | tuple[int, ...] | None = None,
        gpu: str | tuple[str, ...] | None = None,
        region: str | tuple[str, ...] | None = None,
    ) -> Needs:
        """The needs that the options of these names declare; `memory` in MiB."""
        cpu, cpu_limit = _pair(cpu)
        least, most = _pair(memory)
        return cls(
            cpu=cpu,
            cpu_limit=cpu_limit,
            memory=None if least is None else int(least) * MEBIBYTE,
            memory_limit=None if most is None else int(most) * MEBIBYTE,
            gpus=gpu_needs(gpu),
            regions=(region,) if isinstance(region, str) else region or (),
        )

    @property
    def is_declared(self) -> bool:
        """Whether its function asks for anything at all."""
        return self != Needs()

    def __str__(self) -> str:
        """As people read it: "gpu A100:2 or H100, cpu 4, memory 8 GiB, region eu"."""
        parts = [f"gpu {' or '.join(map(str, self.gpus))}"] if self.gpus else []
        parts += [f"cpu {self.cpu:g}"] if self.cpu is not None else []
        parts += [f"memory {self.memory // MEBIBYTE} MiB"] if self.memory is not None else []
        parts += [f"region {' or '.join(self.regions)}"] if self.regions else []
        return ", ".join(parts)


def _pair(value: float | tuple[float, ...] | None) -> tuple[float | None, float | None]:
    """Request and limit; a single number is a request without a limit."""
    if isinstance(value, tuple):
        return value[0], value[1] if len(value) > 1 else None
    return value, None

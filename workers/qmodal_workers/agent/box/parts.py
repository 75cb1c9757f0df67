"""What a box gives to each container that starts there, and takes back at its end."""

from __future__ import annotations

from dataclasses import dataclass

from qmodal_workers.agent.box.limits import ContainerLimits
from qmodal_workers.devices.leases import GpuLeases


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxParts:
    """Its GPUs, its limits, and the region that it is in (empty: nobody has said)."""

    gpus: GpuLeases
    limits: ContainerLimits
    region: str = ""

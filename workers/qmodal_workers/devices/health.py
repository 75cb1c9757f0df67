"""Which GPUs of a box are lost, by what the driver said in one look after another; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qmodal_workers.devices.nvml import GpuFigures, Look

# A lost GPU is offered again when the driver has found it well for so long.
HEALTHY_SECONDS = 30.0
# After a fault that it told of (an Xid) it may look well for a while.
HEALTHY_AFTER_XID_SECONDS = 300.0
NOT_LISTED = "the driver does not list it any more"


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a GPU is lost, how long it has to be well, and since when it is (0: it is not), in monotonic seconds."""

    reason: str
    patience: float
    well_since: float = 0.0


class Health:
    """The lost GPUs among these."""

    def __init__(self, uuids: Iterable[str]) -> None:
        self._uuids = tuple(uuids)
        self._losses: dict[str, Loss] = {}

    @property
    def lost(self) -> dict[str, str]:
        """Why each GPU that is lost is so."""
        return {uuid: loss.reason for uuid, loss in self._losses.items()}

    def take(self, look: Look) -> None:
        """Take in a look; one in which the driver said nothing at all says nothing of any GPU."""
        if look.error:
            return
        for uuid in self._uuids:
            fault = _fault(uuid, look.gpus.get(uuid), look.xids)
            if fault is not None:
                self._losses[uuid] = fault
            elif uuid in self._losses:
                self._recover(uuid, self._losses[uuid], look.at)

    def _recover(self, uuid: str, loss: Loss, now: float) -> None:
        since = loss.well_since or now
        if now - since >= loss.patience:
            del self._losses[uuid]
        else:
            self._losses[uuid] = Loss(loss.reason, loss.patience, since)


def _fault(uuid: str, figures: GpuFigures | None, xids: Mapping[str, int]) -> Loss | None:
    if uuid in xids:
        return Loss(f"the driver reports Xid {xids[uuid]}", HEALTHY_AFTER_XID_SECONDS)
    if figures is None:
        return Loss(NOT_LISTED, HEALTHY_SECONDS)
    return Loss(figures.fault, HEALTHY_SECONDS) if figures.fault else None

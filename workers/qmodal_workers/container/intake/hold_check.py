"""Asks the server before an input starts whether this container still holds its entry."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.ipc.shared_record import SharedRecord


@dataclass(slots=True)
class HoldCheck:
    """Checks the entry in the slot, if an input that this container has claimed was cancelled."""

    client: Client
    pool: str
    container: str
    record: SharedRecord
    slot: Slot
    # The last entry that was found ours, and the record's `cancels` at that time.
    _confirmed: tuple[str, int] = ("", 0)

    def is_wanted(self) -> bool:
        """Whether the input that is about to start is still ours; asks once for each cancelled input."""
        claimed, cancels = self.slot.claimed, self.record.cancels
        if claimed is None or self._confirmed == (claimed.entry, cancels):
            return True
        holds = self.client.pools.holds(self.pool, self.container, claimed.lane, claimed.entry)
        with suppress(Error):  # without an answer it stays ours until we settle it
            if not self.client.run(holds):
                return False
        self._confirmed = claimed.entry, cancels
        return True

"""Finds out what of a group is not wanted any more, when inputs were cancelled meanwhile."""

from __future__ import annotations

from contextlib import suppress

from qmodal.exception import Error
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import SharedRecord


async def drop_unwanted(
    group: Group, heard: int, record: SharedRecord, settlement: Settlement
) -> None:
    """What was cancelled between its claim and its start does not start.

    `heard`: how many cancelled inputs had been heard of when it was claimed.
    """
    client, now = settlement.client, record.cancels
    while now != heard:
        heard = now
        for row, attempt in zip(group.rows, group.attempts, strict=True):
            claimed = attempt.claimed
            held = client.pools.holds(
                settlement.pool, settlement.container, claimed.lane, claimed.entry
            )
            with suppress(Error):  # without an answer it stays ours until we settle it
                if not await client.aio(held):
                    group.cancel(row)
        now = record.cancels

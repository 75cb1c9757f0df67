"""Doing a chore, as a job, and noting how it went."""

from __future__ import annotations

import time

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.services.control.chores.work import WORK
from qmodal.store.history.chores import ChoreRecord
from qmodal.store.server import server_ms
from qmodal.telemetry.events import CHORE_FAILED, emit


class Doing:
    """Does chores in one process, which is called `process` in their records."""

    def __init__(self, client: Client, process: str) -> None:
        self._client = client
        self._process = process

    def do(self, name: str, slot: int) -> str:
        """Do the chore of that name for that interval; what was done, for people. Raises what it fails with."""
        client = self._client
        began = time.monotonic()
        try:
            did = client.run(WORK[name](client, slot))
        except Error as error:
            emit(CHORE_FAILED, chore=name, reason=str(error))
            self._note(name, slot, began, did="", error=str(error))
            raise
        self._note(name, slot, began, did=did, error="")
        return did

    def _note(self, name: str, slot: int, began: float, *, did: str, error: str) -> None:
        client = self._client
        now = round(client.run(server_ms()))
        before = client.run(client.chores.all()).get(name)
        record = ChoreRecord(
            name=name,
            slot=slot,
            at=now,
            good=(before.good if before else 0) if error else now,
            seconds=round(time.monotonic() - began, 3),
            did=did,
            error=error,
            process=self._process,
        )
        client.run(client.chores.note(record))

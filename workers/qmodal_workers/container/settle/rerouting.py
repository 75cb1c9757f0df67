"""Finds out whether another box or a newer version can run an input that this container cannot."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import qmodal
from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.fleet import WorkerReport
from qmodal.transport.operation import Op
from qmodal_workers.container.until_ready import insist


@dataclass(frozen=True, slots=True)
class Rerouting:
    """Asks the server when such an input comes, and not before; `app_id` and `number`: the version here.

    `is_pinned`: the pool keeps to this version, so a newer one does not matter.
    """

    client: Client
    app_id: str
    number: int
    is_pinned: bool

    def has_newer_code(self) -> bool:
        """Whether a newer version than ours is current, which may have the code that ours does not."""
        if self.is_pinned:
            return False
        with suppress(Error):
            record = insist(self.client, lambda: self.client.apps.record(self.app_id))
            return record is not None and record.version > self.number
        return False

    def has_box_for(self, python: str) -> bool:
        """Whether a living box has that Python; without one: whether it has another qmodal."""
        with suppress(Error):
            return any(_suits(box, python) for box in insist(self.client, self._boxes))
        return False

    def _boxes(self) -> Op[list[WorkerReport]]:
        workers = yield from self.client.fleet.living_workers()
        return (yield from self.client.fleet.reports(workers))


def _suits(box: WorkerReport, python: str) -> bool:
    if python:
        return box.python == python or box.python.startswith(python + ".")
    return box.version != qmodal.__version__

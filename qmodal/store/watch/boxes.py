"""Boxes as their records describe them: what they offer, and whether they are cordoned or drained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qmodal.store import reading
from qmodal.store.fleet import WorkerReport, packed
from qmodal.store.keys import Keys
from qmodal.transport.operation import Op, ask_each, ask_one
from qmodal.transport.script import script

_FIELDS = (b"cordoned", b"drained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """Since when a box gets nothing new, and since when its containers end, too: in ms since 1970, 0 if they do not."""

    cordoned: int = 0
    drained: int = 0

    @property
    def is_closed(self) -> bool:
        """Whether the box gets nothing new."""
        return self.cordoned > 0 or self.drained > 0

    @property
    def fields(self) -> dict[str, int]:
        """As the record of a box has them: those that are set."""
        found = {"cordoned": self.cordoned, "drained": self.drained}
        return {name: since for name, since in found.items() if since}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxRecord:
    """A box: what it reports of itself, and whether somebody has cordoned it."""

    report: WorkerReport
    cordon: Cordon = Cordon()


@dataclass(frozen=True, slots=True)
class Boxes:
    """Operations on the records of boxes."""

    keys: Keys

    def records(self, workers: Sequence[str]) -> Op[dict[str, BoxRecord]]:
        """The records of many boxes in one pipeline; those without one (that can be read) are left out."""
        names = [self.keys.worker(worker) for worker in workers]
        replies = yield from ask_each((b"HMGET", name, b"report", *_FIELDS) for name in names)
        found: dict[str, BoxRecord] = {}
        for worker, name, reply in zip(workers, names, replies, strict=True):
            if not reading.is_readable(reply, name) or reply[0] is None:
                continue
            report = reading.report(reply[0], WorkerReport, name)
            if report is not None and report.worker == worker:
                found[worker] = BoxRecord(report=report, cordon=_cordon(reply[1:]))
        return found

    def cordon_of(self, worker: str) -> Op[Cordon]:
        """Whether the box is cordoned or drained; a record that cannot be read says neither."""
        name = self.keys.worker(worker)
        (reply,) = yield from ask_each([(b"HMGET", name, *_FIELDS)])
        return _cordon(reply) if reading.is_readable(reply, name) else Cordon()

    def cordon(self, worker: str) -> Op[bool]:
        """Have the box get nothing new; what it runs goes on. False if there is no such box."""
        return (yield from self._change(worker, "cordon"))

    def drain(self, worker: str) -> Op[bool]:
        """Cordon the box, and have its containers end after what they run. False if there is no such box."""
        return (yield from self._change(worker, "drain"))

    def uncordon(self, worker: str) -> Op[bool]:
        """Have the box get containers again. False if there is no such box."""
        return (yield from self._change(worker, "uncordon"))

    def describe(self, report: WorkerReport) -> Op[bool]:
        """Replace what the box reports of itself, and tell the autoscaler. False if it was given up."""
        keys, worker = self.keys, report.worker
        reply = yield from ask_one(
            *script("describe").command(
                (keys.worker(worker), keys.workers), (worker, packed(report), keys.wake)
            )
        )
        return bool(reply)

    def _change(self, worker: str, how: Literal["cordon", "drain", "uncordon"]) -> Op[bool]:
        """The autoscaler and the box hear of it at once, and read it again every second."""
        keys = self.keys
        reply = yield from ask_one(
            *script("cordon").command(
                (keys.worker(worker), keys.workers), (worker, how, keys.wake, keys.nudge(worker))
            )
        )
        return bool(reply)


def _cordon(reply: Sequence[Any]) -> Cordon:
    cordoned, drained = (max(0, reading.whole(raw) or 0) for raw in reply)
    return Cordon(cordoned=cordoned, drained=drained)

"""Splits a pack around its running input, so that no other input waits behind a long one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from qmodal.client.client import Client
from qmodal.store.entries import Ended, Requeued
from qmodal.transport.operation import Op
from qmodal_workers.container.run.pack import Pack, Split
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.settle.pack_outcomes import PackOutcomes, requeued
from qmodal_workers.container.until_ready import INSIST_SECONDS, OUTAGES, insist


@dataclass(slots=True)
class PackSplitter:
    """Splits packs: the running input keeps the entry, the others are settled or go back in line.

    Steps: strike the unstarted inputs, decide on a Split, send it, confirm it. Once sent it may have
    been carried out, whatever was answered; so it is sent again until it can be confirmed.
    The release thread takes the steps while user code runs. `lock` is held over all of them, so
    that the thread that runs the pack neither concludes it in between nor takes the same steps.
    """

    client: Client
    pool: str
    container: str
    outcomes: PackOutcomes
    lock: threading.Lock = field(default_factory=lambda: threading.Lock())

    def split_running(self, slot: Slot, pack: Pack) -> None:
        """By the release thread: split the pack if it still runs. Raises Error if no answer came."""
        with self.lock:
            if slot.pack is pack:
                self.split(pack)

    def detach(self, slot: Slot) -> None:
        """Take the pack, which runs no more, out of the slot: then the release thread cannot split it."""
        with self.lock:
            slot.pack = None

    def isolate(self, pack: Pack) -> None:
        """By the thread that ran the pack: split it around the interrupted input, however long that takes."""
        while not pack.is_kept:
            try:
                with self.lock:
                    self.split(pack)
            except OUTAGES:
                time.sleep(INSIST_SECONDS)

    def split(self, pack: Pack) -> None:
        """Take the steps that are left; the caller holds the lock."""
        if pack.split is None:
            pack.split = self._decide(pack)
        if pack.split is not None:
            self.client.run(self._send(pack, pack.split))
            pack.confirm(pack.split)

    def finish(self, pack: Pack, split: Split) -> None:
        """Send a split until it is answered and confirm it: it may have been carried out already."""
        insist(self.client, lambda: self._send(pack, split))
        pack.confirm(split)

    def dissolve(self, pack: Pack, ended: list[Ended], again: list[Requeued]) -> Op[bool]:
        """End the entry of a pack: each input is in one of these lists, and none keeps the entry."""
        return self.client.pools.split(
            self.pool, self.container, pack.claimed, keep=None, ended=ended, again=again
        )

    def _decide(self, pack: Pack) -> Split | None:
        """Strike the unstarted inputs, and decide on each; None if it was split before, or no input runs."""
        pack.strike()
        place = pack.struck[0] - 1 if pack.struck else pack.end - 1
        results = list(pack.results)  # the input may end at any moment
        if pack.is_kept or len(results) != place - pack.begin:
            pack.unstrike()
            return None
        retried = self.outcomes.retried(pack, results)
        again = requeued(pack, retried)
        if pack.struck:
            again.append(Requeued(pack.index_of(pack.struck[0]), len(pack.struck)))
        return Split(place, self.outcomes.ended(pack, results, retried), again)

    def _send(self, pack: Pack, split: Split) -> Op[bool]:
        return self.client.pools.split(
            self.pool,
            self.container,
            pack.claimed,
            keep=pack.index_of(split.place),
            ended=split.ended,
            again=split.again,
        )

"""A container's intake without a container."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed, Settled
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.intake.claim_size import RECENT
from qmodal_workers.container.intake.intake import Intake
from qmodal_workers.container.process.output_marks import OutputMarks
from qmodal_workers.container.run.admission import Admission
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import ContainerStatus, SharedRecord
from tests.support.store.bench import Bench, index_of
from tests.support.waiting import wait_until

NAME = "ta-a-1"


class Holder:
    """The test starts and ends its inputs: entries of `size`, which seemed to take `each` seconds an input.

    No time passes for it, so that nothing runs too long.
    """

    def __init__(
        self, bench: Bench, options: FunctionOptions, *, each: float = 0.00001, size: int = 1
    ) -> None:
        client, pool = bench.client, bench.pool
        self.settlement = Settlement(
            client=client,
            pool=pool,
            container=NAME,
            options=options,
            admission=Admission(client, pool),
        )
        self.record = SharedRecord.create()
        self.claims = ClaimConnection(client, pool, NAME, is_once=options.is_once)
        self.slot = Slot()
        self.intake = Intake(
            slot=self.slot,
            claims=self.claims,
            record=self.record,
            settlement=self.settlement,
            marks=OutputMarks(self.record.output, [sys.stdout, sys.stderr]),
            options=options,
            pools=client.pools,
        )
        self.intake.buffer.clock = lambda: 1
        self.claims.connect()
        for _ in range(RECENT):
            self.intake.claim_sizer.ran(each * size, size)

    def run(self, count: int) -> list[int]:
        """Start and end so many inputs, reaching for more as a container does; their indexes."""
        return [index for _, index in self.run_named(count)]

    def run_named(self, count: int) -> list[tuple[str, int]]:
        """The same; their calls, too."""
        ran = list[tuple[str, int]]()
        while len(ran) < count:
            claimed = self.intake.buffer.start()
            if claimed is None:
                self.intake.claim()
                continue
            self.intake.reach()
            self.end(claimed)
            ran.append((claimed.call, index_of(claimed)))
        return ran

    def run_until_reached(self) -> list[int]:
        """Run until something is claimed ahead, while the buffer is not empty."""
        ran = self.run(1)
        while not (self.intake.buffer.stage == "asked" and self.intake.buffer.queue):
            ran += self.run(1)
        return ran

    def end(self, claimed: Claimed) -> None:
        """An input has ended."""
        self.slot.finish(time.monotonic_ns())
        settled = Settled(
            claimed.lane,
            claimed.entry,
            claimed.call,
            index_of(claimed),
            b"done",
            has_blob=False,
            count=claimed.size,
        )
        self.settlement.put_back([*self.settlement.take(), settled])

    def close(self) -> None:
        """Give back what was not started."""
        self.intake.settle()
        self.intake.buffer.release_all()
        self.claims.close()
        wait_until(lambda: self.doing().tick == 0, what="the release thread sleeps")
        os.close(self.record.fd)  # only: that thread may have been told to look once more

    def doing(self) -> ContainerStatus:
        """What the record says."""
        found = self.record.read()
        assert found is not None
        return found


def holder_of(
    bench: Bench, options: FunctionOptions, *, each: float = 0.00001, size: int = 1
) -> Iterator[Holder]:
    """A holder, and its end."""
    made = Holder(bench, options, each=each, size=size)
    yield made
    made.close()

"""A GPU never has two owners: random lives and deaths of workers and containers, as processes, with real locks."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from qmodal.spec.needs.gpus import GpuNeed
from qmodal_workers.devices.fitting import GpuState, choose
from tests.support.hardware.lessor import GPUS, Lessor, Lessors, lessors
from tests.support.waiting import wait_until

NEEDS = ["A100", "A100:2", "L4", "any", "any:3", "L4:0.5", "any:1/3", "A100:1/2", "A100:0.25"]
# What has happened in all walks together.
counts: Counter[str] = Counter()


def lives(pid: int) -> bool:
    """Whether it is there and no zombie; one that is stopped lives."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


class Holder:
    """The processes that hold one lease, and the worker that has given it (None: not that worker any more)."""

    def __init__(self, name: str, worker: Lessor, answer: dict[str, Any]) -> None:
        self.name, self.pids = name, answer["pids"]
        self.uuids, self.shares = set(answer["uuids"]), answer["shares"]
        self.worker: Lessor | None = worker

    @property
    def lives(self) -> bool:
        return any(map(lives, self.pids))

    def kill(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(lives, pids)), what="they have ended")


class Owners(RuleBasedStateMachine):
    """Workers of one machine, their containers, and what each of them holds."""

    host: Lessors

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()), "locks")
        self.workers: list[Lessor] = []
        self.stopped: set[int] = set()
        self.holders: list[Holder] = []
        self.number = 0
        self.start_worker()
        self.start_worker()

    def teardown(self) -> None:
        for holder in self.holders:
            holder.kill(holder.pids)
        for worker in self.workers:
            self.end(worker)
        self.stack.close()

    def end(self, worker: Lessor) -> None:
        with suppress(ProcessLookupError):
            worker.signal(signal.SIGKILL)
        wait_until(lambda: not lives(worker.pid), what="the worker has ended")
        worker.close()

    def awake(self, index: int) -> Lessor | None:
        """One of the workers that are not stopped."""
        able = [worker for worker in self.workers if worker.pid not in self.stopped]
        return able[index % len(able)] if able else None

    @rule()
    def start_worker(self) -> None:
        if len(self.workers) < 3:
            self.workers.append(self.host.worker(self.folder))
            counts["workers"] += 1

    @rule(index=st.integers(0, 2), needs=st.lists(st.sampled_from(NEEDS), max_size=4))
    def start_containers(self, index: int, needs: list[str]) -> None:
        for place, need in enumerate(needs):
            self.lease(index + place // 2, need, leaves=place == 1)

    def lease(self, index: int, need: str, *, leaves: bool) -> None:
        worker = self.awake(index)
        if worker is None:
            return
        self.number += 1
        name = f"ta-{self.number}"
        expected = self.has_room(worker, GpuNeed.parse(need))
        answer = worker.ask(lease=name, gpu=need, leaves=leaves)
        if answer["pids"]:
            counts["leases"] += 1
            self.holders.append(Holder(name, worker, answer))
        else:
            counts["waits"] += 1
            assert not expected, f"{need} was free, and was not leased"

    def has_room(self, worker: Lessor, need: GpuNeed) -> bool:
        """Whether the worker could lease that, by what lives and what it was told."""
        counting = [each for each in self.holders if each.lives or each.worker is worker]
        states = []
        for gpu in GPUS:
            of = [each for each in counting if gpu.uuid in each.uuids]
            shares = {each.shares for each in of} or {1}
            # Of those of other workers it knows nothing, and so where it is best to cut: only what is all free is sure.
            is_sure = all(each.worker is worker for each in of)
            states.append(GpuState(gpu=gpu, taken=len(of), shares=min(shares), is_usable=is_sure))
        return choose([need], states) is not None

    @rule(index=st.integers(0, 20), is_all=st.booleans())
    def kill_container(self, index: int, is_all: bool) -> None:
        living = [each for each in self.holders if each.lives]
        if living:
            holder = living[index % len(living)]
            holder.kill(holder.pids if is_all else holder.pids[:1])
            counts["containers killed"] += 1

    @rule(index=st.integers(0, 20))
    def tell_worker(self, index: int) -> None:
        """A worker hears that a container of it, the first process of a lease, has ended."""
        over = [
            each
            for each in self.holders
            if each.worker is not None
            and each.worker.pid not in self.stopped
            and not lives(each.pids[0])
        ]
        if over:
            holder = over[index % len(over)]
            assert holder.worker is not None
            holder.worker.ask(ended=holder.name)
            holder.worker = None
            counts["ends heard"] += 1

    @rule(index=st.integers(0, 2))
    def kill_worker(self, index: int) -> None:
        if self.workers:
            worker = self.workers.pop(index % len(self.workers))
            self.stopped.discard(worker.pid)
            self.end(worker)
            for holder in self.holders:
                if holder.worker is worker:
                    holder.worker = None
            counts["workers killed"] += 1

    @rule(index=st.integers(0, 2))
    def come_back(self, index: int) -> None:
        """A worker was given up, and knows nothing of what its containers hold under its old id."""
        worker = self.awake(index)
        if worker is not None:
            worker.ask(session=True)
            for holder in self.holders:
                if holder.worker is worker:
                    holder.worker = None
            counts["new sessions"] += 1

    @rule(index=st.integers(0, 2))
    def drain(self, index: int) -> None:
        """All containers of a worker end in order, and it hears of each."""
        worker = self.awake(index)
        for holder in [each for each in self.holders if each.worker is worker is not None]:
            holder.kill(holder.pids)
            assert worker is not None
            worker.ask(ended=holder.name)
            holder.worker = None
            counts["drained"] += 1

    @rule(index=st.integers(0, 2))
    def stop_or_continue(self, index: int) -> None:
        if self.workers:
            worker = self.workers[index % len(self.workers)]
            if worker.pid in self.stopped:
                self.stopped.discard(worker.pid)
                worker.signal(signal.SIGCONT)
            else:
                self.stopped.add(worker.pid)
                worker.signal(signal.SIGSTOP)
                counts["workers stopped"] += 1

    @invariant()
    def no_gpu_has_two_owners(self) -> None:
        counts["looks"] += 1
        self.holders = [each for each in self.holders if each.lives or each.worker is not None]
        living = [each for each in self.holders if each.lives]
        for gpu in GPUS:
            of = [each for each in living if gpu.uuid in each.uuids]
            assert len({each.shares for each in of}) <= 1, "a GPU is cut in two ways"
            assert sum(1 / each.shares for each in of) <= 1.001, f"{gpu.uuid} has two owners"


def test_a_gpu_never_has_two_owners_whoever_is_killed_frozen_or_comes_back() -> None:
    counts.clear()
    with lessors() as Owners.host:
        run_state_machine_as_test(
            Owners,
            settings=settings(
                max_examples=int(os.environ.get("QMODAL_GPU_WALKS", "40")),
                stateful_step_count=40,
                deadline=None,
                derandomize="QMODAL_GPU_WALKS" not in os.environ,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
    print(dict(counts))
    assert counts["leases"] > 0
    assert counts["waits"] > 0

"""What a worker does when a container has ended and something else goes wrong meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from qmodal.client.client import Client
from qmodal.store.fleet import ContainerReport
from qmodal_workers.agent.box.limits import ContainerLimits
from qmodal_workers.agent.box.parts import BoxParts
from qmodal_workers.agent.containers import Container, ContainerTable, PendingInterrupt, Termination
from qmodal_workers.agent.drain import Drain
from qmodal_workers.agent.lease import ContainerFence
from qmodal_workers.agent.measuring.statistics import FunctionStatistics
from qmodal_workers.agent.reaper import Reaper
from qmodal_workers.agent.supervision import supervised
from qmodal_workers.agent.watchdog import Watchdog
from qmodal_workers.devices.leases import GpuLeases
from qmodal_workers.devices.offered import OfferedGpus
from qmodal_workers.devices.watch import GpuWatch
from qmodal_workers.ipc.endpoints import Endpoints
from qmodal_workers.ipc.shared_record import STOPPED, ContainerStatus
from tests.support.store.bench import Bench

Break = Callable[..., Any]


class Box:
    """A worker's view of containers that are processes which only sleep."""

    def __init__(self, client: Client, pool: str) -> None:
        self.client, self.pool, self.containers = client, pool, ContainerTable()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.endpoints: list[Endpoints] = []
        self.troubles: list[Exception] = []

    def container(self, name: str, **does: Any) -> Container:
        """One that is ready, and does that."""
        process = subprocess.Popen(["sleep", "600"], start_new_session=True)
        self.processes.append(process)
        report = ContainerReport(
            container=name,
            pool=self.pool,
            app="ap",
            function="f",
            label="f",
            number=1,
            state="ready",
            since=0,
            pid=process.pid,
        )
        ends = Endpoints.create()
        self.endpoints.append(ends)
        ends.record.write(ContainerStatus(**does))
        made = Container(report=report, endpoints=ends)
        self.containers.add(made)
        return made

    def deaths(self) -> Reaper:
        """What watches them; each of `troubles` is raised once where something is asked for."""
        asked: Any = SimpleNamespace(
            receive=self._ask, tidy=self._ask, finish=self._finish, pids=frozenset()
        )
        return Reaper(
            self.client,
            self.containers,
            starter=asked,
            templates=asked,
            logs=asked,
            statistics=FunctionStatistics(self.client),
            box=BoxParts(
                gpus=GpuLeases(GpuWatch(OfferedGpus()), None),
                limits=ContainerLimits(self.containers),
            ),
        )

    def _ask(self, *_: object) -> None:
        if self.troubles:
            raise self.troubles.pop()

    async def _finish(self, _: str) -> None:
        self._ask()

    async def until_over(self, deaths: Reaper) -> None:
        """Look as a worker does until all have ended."""
        async with asyncio.timeout(5):
            while self.containers.running():
                deaths.reap()
                await asyncio.sleep(0.01)
        await self.client.aclose()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for container in self.containers:
            if container.endpoints is not None:
                container.endpoints.close()
        for ends in self.endpoints:
            for fd in (ends.stdout, ends.stderr):
                os.close(fd)
            ends.hand_over()


@pytest.fixture
def box(bench: Bench, client: Client) -> Iterator[Box]:
    made = Box(client, bench.pool)
    yield made
    made.close()


def kill(container: Container) -> None:
    os.kill(container.pid, signal.SIGKILL)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_ended_containers_are_concluded_although_something_goes_wrong_meanwhile(
    bench: Bench, box: Box, count: int
) -> None:
    for name in ("ta-a-1", "ta-a-2"):
        bench.submit()
        assert len(bench.claim(name)) == 1
        kill(box.container(name))
    box.troubles = [TypeError("a fault of ours") for _ in range(count)]
    asyncio.run(box.until_over(box.deaths()))
    assert [(each.report.state, each.report.pid) for each in box.containers] == [("ended", 0)] * 2
    assert len(bench.claim("ta-a-3", count=5)) == 2


def test_a_container_that_its_guard_has_killed_was_cut_off(box: Box) -> None:
    """The guard may be quicker than its worker, and the lease good again when that looks."""
    ended, killed = box.container("ta-a-1"), box.container("ta-a-2")
    assert ended.endpoints is not None
    ended.endpoints.record.note_cut_off()
    for each in (ended, killed):
        kill(each)
    asyncio.run(box.until_over(box.deaths()))
    assert ended.report.detail == "its worker was cut off from the server"
    assert killed.report.detail == "its container was killed by signal 9"


async def _watch(box: Box) -> None:
    """The loops of a worker, until its second container has ended."""
    watch = Watchdog(box.client, box.containers)
    draining = Drain(box.client, box.containers, watch, grace=0.0)
    loops = [watch.watch, draining.watch, ContainerFence(box.containers, watch).watch]
    tasks = [asyncio.create_task(loop()) for loop in loops]
    await asyncio.to_thread(box.processes[1].wait, 5)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await box.client.aclose()


def test_a_container_that_confuses_a_loop_does_not_end_it_for_the_others(box: Box) -> None:
    """Both drain and have no time left; the first one's record is gone."""
    odd, other = box.container("ta-a-1"), box.container("ta-a-2")
    for each in (odd, other):
        each.tell(draining=True)
    assert odd.endpoints is not None
    odd.endpoints.close()
    asyncio.run(_watch(box))
    assert other.termination == Termination("its exit hooks, or threads, did not end in time")
    odd.endpoints = None


def test_a_loop_that_ends_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmodal_workers.agent.supervision.RESTART_SECONDS", 0.0)
    begun = 0

    async def run() -> None:
        thrice = asyncio.Event()

        async def loop() -> None:
            nonlocal begun
            begun += 1
            if begun < 3:
                raise LookupError
            thrice.set()
            await asyncio.sleep(600)

        task = asyncio.create_task(supervised("test", loop))
        async with asyncio.timeout(5):
            await thrice.wait()
        task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("serial", "why", "charged"), [(4, STOPPED, 0), (3, STOPPED, 1), (4, STOPPED + 1, 1)]
)
def test_an_input_that_ends_its_container_when_it_is_told_to_stop_is_not_charged(
    bench: Bench, box: Box, serial: int, why: int, charged: int
) -> None:
    bench.submit()
    (claimed,) = bench.claim("ta-a-1")
    held = ((claimed.lane, claimed.entry),)
    container = box.container("ta-a-1", state="busy", serial=4, running=1, held=held)
    container.pending_interrupt = PendingInterrupt(serial, why, 0.0)
    kill(container)
    asyncio.run(box.until_over(box.deaths()))
    (again,) = bench.claim("ta-a-2")
    assert again.lost == charged


@pytest.mark.parametrize("is_readable", [True, False])
def test_what_ends_its_container_while_the_record_is_written_is_charged_nevertheless(
    bench: Bench, box: Box, is_readable: bool
) -> None:
    bench.submit()
    (claimed,) = bench.claim("ta-a-1")
    held = ((claimed.lane, claimed.entry),)
    container = box.container("ta-a-1", state="busy", serial=1, running=1, held=held)
    assert container.endpoints is not None
    container.endpoints.record.container.sequence += not is_readable
    kill(container)
    asyncio.run(box.until_over(box.deaths()))
    (again,) = bench.claim("ta-a-2")
    assert again.lost == 1

"""The worker's lease: renewed with reports of its containers, and what ends when it is not safe."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.fleet import LEASE_MS, RENEW_SECONDS, ContainerReport
from qmodal.telemetry.events import CONTAINER_CUT_OFF, emit
from qmodal.transport.defects import survive
from qmodal_workers.agent.containers import Container, ContainerTable, Termination
from qmodal_workers.agent.watchdog import Watchdog, is_running
from qmodal_workers.ipc.shared_record import lease_clock

RENEW_RETRY_SECONDS = 0.5
# Reports that change so soon after others go out together.
TOGETHER_SECONDS = 0.02
# At-most-once containers that run an input are killed this long before the lease ends.
FENCE_MARGIN_MS = 3_000
SAFE_NS = (LEASE_MS - FENCE_MARGIN_MS) * 1_000_000
Reports = Mapping[str, ContainerReport | None]


class Lease:
    """Renews the lease every two seconds, and at once when a report has changed."""

    def __init__(self, client: Client, containers: ContainerTable, worker: str) -> None:
        self._client = client
        self._containers = containers
        self._worker = worker

    async def keep(self) -> None:
        """Renew until the worker was given up, which only an answer of the server can say."""
        began = time.monotonic()
        while await self._renew():
            await asyncio.sleep(max(0.0, began + TOGETHER_SECONDS - time.monotonic()))
            began = time.monotonic()
            if lease_clock() > self._containers.safe_until:
                continue  # it took so long that what was granted is nearly over
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._containers.changed.wait()
            began = time.monotonic()

    async def _renew(self) -> bool:
        reports = self._containers.take_unsent()
        sent = lease_clock()  # the server counts from later, if it hears of it at all
        answers: list[bool] = []
        with survive("renewing the lease"):
            answers.append(await self._client.aio(self._client.fleet.renew(self._worker, reports)))
        if not answers:  # whatever it was, only the server can say that the lease is over
            self._containers.put_back(reports)
            await asyncio.sleep(RENEW_RETRY_SECONDS)
            return True
        (is_ours,) = answers
        if is_ours:
            extend(self._containers, sent)
            with survive("waking the autoscaler"):
                await self._wake(reports)
        return is_ours

    async def _wake(self, reports: Reports) -> None:
        """The autoscaler looks at the pools of changed containers at once."""
        pools = {
            report.pool for report in reports.values() if report is not None and report.is_news
        }
        if pools:
            with contextlib.suppress(Error):  # it looks every second anyway
                await self._client.aio(self._client.fleet.wake(*pools))


def extend(containers: ContainerTable, sent: int) -> None:
    """Note that the lease was granted to a request sent at that moment of `lease_clock`."""
    containers.safe_until = sent + SAFE_NS
    for container in containers.running():
        if container.endpoints is not None:
            container.endpoints.record.hold_until(containers.safe_until)


FENCE_CHECK_SECONDS = 0.1
CUT_OFF = "its worker was cut off from the server"


class ContainerFence:
    """Kills at-most-once containers that run an input when the lease is not safe any more.

    Other containers go on while the server is silent. But once the lease has ended, others tell the callers
    of `delivery="at_most_once"` that their inputs were lost, and by then none of those may run.
    """

    def __init__(self, containers: ContainerTable, watchdog: Watchdog) -> None:
        self._containers = containers
        self._watchdog = watchdog

    async def watch(self) -> None:
        """Check ten times a second, for ever."""
        while True:
            self.check()
            await asyncio.sleep(FENCE_CHECK_SECONDS)

    def check(self) -> None:
        """Kill what must not run on if the lease is not safe; a container that starts checks by itself."""
        if lease_clock() < self._containers.safe_until:
            return
        for container in self._containers.running():
            if container.options.is_once and container.report.state != "starting":
                with survive(f"the look at {container.id}"):
                    self._end(container)

    def _end(self, container: Container) -> None:
        """Kill it if it runs an input: the outcome of one that has ended waits for the server."""
        status = container.status()
        if status is not None and not is_running(status):
            return
        if container.termination is None:
            emit(CONTAINER_CUT_OFF, reason=CUT_OFF, **container.about)
        self._watchdog.kill(container, Termination(CUT_OFF))

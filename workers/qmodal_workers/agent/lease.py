"""Keep the worker's lease, and report its containers when something changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.fleet import LEASE_MS, RENEW_SECONDS, ContainerReport
from qmodal.transport.defects import survive
from qmodal_workers.agent.containers import Container, ContainerTable, Termination
from qmodal_workers.agent.watchdog import Watchdog, is_running
from qmodal_workers.ipc.shared_record import lease_clock

RETRY_SECONDS = 0.5
# Containers that may not overlap with anything end that long before the lease does.
MARGIN_MS = 3_000
SAFE_NS = (LEASE_MS - MARGIN_MS) * 1_000_000
log = logging.getLogger("qmodal.worker")
Reports = Mapping[str, ContainerReport | None]


class Lease:
    """Renews every two seconds and at once after a change."""

    def __init__(self, client: Client, containers: ContainerTable, worker: str) -> None:
        self._client = client
        self._containers = containers
        self._worker = worker

    async def keep(self) -> None:
        """Returns when the worker was given up; a server that is silent has not said so."""
        while await self._renew():
            if lease_clock() > self._containers.safe_until:
                continue  # it took so long that what was granted is nearly over
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._containers.changed.wait()

    async def _renew(self) -> bool:
        reports = self._containers.take_unsent()
        sent = lease_clock()  # the server counts from later, if it hears of it at all
        answers: list[bool] = []
        with survive("renewing the lease"):
            answers.append(await self._client.aio(self._client.fleet.renew(self._worker, reports)))
        if not answers:  # whatever it was, only the server can say that the lease is over
            self._containers.put_back(reports)
            await asyncio.sleep(RETRY_SECONDS)
            return True
        (is_ours,) = answers
        if is_ours:
            extend(self._containers, sent)
            with survive("waking the autoscaler"):
                await self._wake(reports)
        return is_ours

    async def _wake(self, reports: Reports) -> None:
        """The autoscaler looks at the pools of changed containers at once."""
        pools = {report.pool for report in reports.values() if report is not None}
        with contextlib.suppress(Error):  # it looks every second anyway
            for pool in pools:
                await self._client.aio(self._client.fleet.wake(pool))


def extend(containers: ContainerTable, sent: int) -> None:
    """The lease was granted to a request that was sent at that moment of `lease_clock`."""
    containers.safe_until = sent + SAFE_NS
    for container in containers.running():
        if container.endpoints is not None:
            container.endpoints.record.hold_until(containers.safe_until)


LOOK_SECONDS = 0.1
CUT_OFF = "its worker was cut off from the server"


class ContainerFence:
    """Looks ten times a second at how long the lease is safe.

    To anybody else silence is no verdict. But once the lease has ended, others tell the callers
    of `delivery="at_most_once"` that their inputs were lost, and by then none of those may run.
    """

    def __init__(self, containers: ContainerTable, watch: Watchdog) -> None:
        self._containers = containers
        self._watch = watch

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Kill them if the lease is not safe any more; one that starts looks itself."""
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
            log.warning("%s ends: %s", container.id, CUT_OFF)
        self._watch.kill(container, Termination(CUT_OFF))

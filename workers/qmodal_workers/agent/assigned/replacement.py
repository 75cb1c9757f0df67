"""Has containers start nothing more that a newer version is about to replace, and says when they are quiet."""

from __future__ import annotations

import asyncio
import contextlib
import time

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.watch.succession import QUIET_SECONDS
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.agent.drain import Drain

LOOK_SECONDS = 0.002


class Replacement:
    """Answers a container of a newer version, which claims nothing before it has the answer of each box."""

    def __init__(self, client: Client, containers: ContainerTable, drain: Drain) -> None:
        self._client = client
        self._containers = containers
        self._drain = drain
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, pool: str, number: int, token: str) -> None:
        """Containers of the pool of versions below `number` start nothing from now on; whoever waits for the token is told."""
        older = [each for each in self._containers.living() if _is_older(each, pool, number)]
        for container in older:
            if (
                container.report.state == "starting"
            ):  # it may claim already, which we do not know yet
                container.tell(draining=True)
            else:
                self._drain.begin(container)
        task = asyncio.create_task(self._answer(older, token))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, older: list[Container], token: str) -> None:
        ends = time.monotonic() + QUIET_SECONDS
        looks = 0
        # One look is not enough: what is about to start has passed the container's last look at its orders.
        while older and looks < 2 and time.monotonic() < ends:
            await asyncio.sleep(LOOK_SECONDS)
            looks = looks + 1 if all(map(_is_quiet, older)) else 0
        with contextlib.suppress(Error):
            await self._client.aio(self._client.calls.heard(token))


def _is_older(container: Container, pool: str, number: int) -> bool:
    report = container.report
    return container.pool == pool and 0 < report.number < number and not report.pinned


def _is_quiet(container: Container) -> bool:
    """Whether it holds nothing that it has started; what it has not, it gives back."""
    if container.is_over:
        return True
    status = container.status()
    return status is not None and not status.running

"""Leader election: at most one autoscaler observes and decides, the others wait for its lease to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine

from qmodal.client.client import Client
from qmodal.exception import ConfigurationError, Error
from qmodal.telemetry.events import LEADER_BEGAN, LEADER_ENDED, LEADER_FAILED, LEADER_UNKNOWN, emit
from qmodal.transport.defects import survive
from qmodal_autoscaler.control.assigner import LeadershipLostError

ELECTION_SECONDS = 1.0
RESIGN_SECONDS = 1.0


def new_autoscaler_id() -> str:
    """The id of one more autoscaler."""
    return f"as-{os.urandom(5).hex()}"


class Leadership:
    """One autoscaler's candidacy, under the id `name`: it asks for the leadership once a second.

    `lead(epoch)` runs while this autoscaler leads, and is cancelled when that ends. A new epoch
    remembers nothing of the one before: while another one led, everything may have changed.
    """

    def __init__(
        self,
        client: Client,
        lead: Callable[[int], Coroutine[None, None, None]],
        name: str = "",
    ) -> None:
        self._client = client
        self._lead = lead
        self._term: asyncio.Task[None] | None = None
        self._epoch = 0
        self.id = name or new_autoscaler_id()

    async def seek(self) -> None:
        """Seek the leadership and keep it, for ever; raises ConfigurationError."""
        try:
            while True:
                with survive(f"{self.id}, asking who leads,", but=(ConfigurationError,)):
                    await self._ask()
                await asyncio.sleep(ELECTION_SECONDS)
        finally:
            await self._end()

    async def resign(self) -> None:
        """Let another autoscaler lead at once."""
        with contextlib.suppress(Error, TimeoutError):  # the lease ends without us, too
            async with asyncio.timeout(RESIGN_SECONDS):
                await self._client.aio(self._client.fleet.resign(self.id))

    async def _ask(self) -> None:
        try:
            epoch = await self._client.aio(self._client.fleet.lead(self.id))
        except ConfigurationError:
            raise
        except Error as error:
            # The term goes on: if another one leads already, what is written with our epoch is refused.
            emit(LEADER_UNKNOWN, autoscaler=self.id, reason=str(error))
            return
        if self._term is not None and self._term.done():
            await self._end()
        if epoch != self._epoch:
            await self._end()
            self._begin(epoch)

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        if epoch:
            emit(LEADER_BEGAN, autoscaler=self.id, epoch=epoch)
            self._term = asyncio.create_task(self._lead(epoch), name=f"epoch {epoch}")

    async def _end(self) -> None:
        term, self._term, self._epoch = self._term, None, 0
        if term is None:
            return
        term.cancel()
        emit(LEADER_ENDED, autoscaler=self.id)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await term
        except* LeadershipLostError:
            pass
        except* Exception as failed:
            # A defect in one leadership must not end the process: the next one begins afresh.
            emit(LEADER_FAILED, failed, autoscaler=self.id)

"""Who leads: at most one autoscaler observes and decides, the others wait for its lease to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine

from qmodal.client.client import Client
from qmodal.exception import ConfigurationError, Error
from qmodal.transport.defects import survive
from qmodal_autoscaler.control.assigner import DethronedError

RENEW_SECONDS = 1.0
RESIGN_SECONDS = 1.0
log = logging.getLogger("qmodal.autoscaler")


class Leadership:
    """Tries to lead once a second; `rule` runs for each leadership, with its epoch.

    A new epoch begins with an empty memory: while somebody else led, everything may have changed.
    """

    def __init__(self, client: Client, rule: Callable[[int], Coroutine[None, None, None]]) -> None:
        self._client = client
        self._rule = rule
        self._ruling: asyncio.Task[None] | None = None
        self._epoch = 0
        self.id = f"as-{secrets.token_hex(5)}"

    async def seek(self) -> None:
        """Seek the leadership and keep it, for ever; raises ConfigurationError."""
        try:
            while True:
                with survive(f"{self.id}, asking who leads,", but=(ConfigurationError,)):
                    await self._turn()
                await asyncio.sleep(RENEW_SECONDS)
        finally:
            await self._end()

    async def resign(self) -> None:
        """Let another autoscaler lead at once."""
        with contextlib.suppress(Error, TimeoutError):  # the lease ends without us, too
            async with asyncio.timeout(RESIGN_SECONDS):
                await self._client.aio(self._client.fleet.resign(self.id))

    async def _turn(self) -> None:
        try:
            epoch = await self._client.aio(self._client.fleet.lead(self.id))
        except ConfigurationError:
            raise
        except Error as error:
            # Nobody has said that another one leads; if so, our epoch is refused.
            log.warning("%s cannot ask who leads: %s", self.id, error)
            return
        if self._ruling is not None and self._ruling.done():
            await self._end()
        if epoch != self._epoch:
            await self._end()
            self._begin(epoch)

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        if epoch:
            log.info("%s leads with epoch %d", self.id, epoch)
            self._ruling = asyncio.create_task(self._rule(epoch), name=f"epoch {epoch}")

    async def _end(self) -> None:
        ruling, self._ruling, self._epoch = self._ruling, None, 0
        if ruling is None:
            return
        ruling.cancel()
        log.info("%s leads no more", self.id)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await ruling
        except* DethronedError:
            pass
        except* Exception:
            # The process must not end of what one leadership has met: the next one begins afresh.
            log.exception("%s has failed as the leader, and tries again", self.id)

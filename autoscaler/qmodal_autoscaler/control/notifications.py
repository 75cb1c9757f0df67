"""Receives hints that a pool needs a look. They may be lost: every pool is read once a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from qmodal.client.client import Client
from qmodal.transport.connection import Address
from qmodal.transport.defects import skip
from qmodal.transport.pubsub import listen
from qmodal.wire.ids import is_pool_id
from qmodal_autoscaler.control.workqueue import WorkQueue

# A pool that waits for room is looked at so long after more inputs have come to it: nothing can be done for them sooner.
MORE_SECONDS = 0.5


class Notifications:
    """Subscribes to the wake channel; a message is a pool, or empty for all of them.

    A plus before the pool: only inputs came. `is_served(pool)`: whether the pool has a ready container,
    `is_waiting(pool)`: whether it waits for room.
    """

    def __init__(
        self,
        client: Client,
        queue: WorkQueue,
        *,
        is_served: Callable[[str], bool],
        is_waiting: Callable[[str], bool],
    ) -> None:
        self._address = Address(client.settings.redis_url or "")
        self._channel = client.keys.wake
        self._queue = queue
        self._is_served = is_served
        self._is_waiting = is_waiting

    async def listen(self) -> None:
        """Listen for ever; after a loss of the connection everything is looked at again."""
        await listen(self._address, self._channel, self._receive)

    def _receive(self, pool: str | None) -> None:
        name = (pool or "").removeprefix("+")
        if not name:
            self._queue.wake_all()
        elif not is_pool_id(name):
            skip("what somebody published as a pool", f"{name[:80]!r} is none")
        elif name == pool:
            self._queue.look(name)
        elif self._is_waiting(name):
            self._queue.plan_no_later(name, time.monotonic() + MORE_SECONDS)
        elif self._is_served(name):
            self._queue.hint(name)
        else:
            self._queue.wake(name)

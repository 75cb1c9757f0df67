"""Receives hints: assignments changed, an input was cancelled, a container is to stop, a version was replaced."""

from __future__ import annotations

from collections.abc import Callable

from qmodal.client.client import Client
from qmodal.transport.connection import Address
from qmodal.transport.pubsub import listen


class Notifications:
    """Subscribes to the worker's channel and calls what each message is for."""

    def __init__(
        self,
        client: Client,
        worker: str,
        *,
        assigned: Callable[[], None],
        cancelled: Callable[[str, str], None],
        killed: Callable[[str, str], None],
        stopped: Callable[[str, str], None],
        told: Callable[[str], None],
        replaced: Callable[[str, int, str], None],
    ) -> None:
        self._address = Address(client.settings.redis_url or "")
        self._channel = client.keys.nudge(worker)
        self._assigned = assigned
        self._told = told
        self._replaced = replaced
        self._of_container = {"cancelled": cancelled, "killed": killed, "stopped": stopped}

    async def listen(self) -> None:
        """Listen for ever; after a loss of the connection everything is looked at again."""
        await listen(self._address, self._channel, self._receive)

    def _receive(self, text: str | None) -> None:
        words = ["assigned"] if text is None else text.split(" ")
        if words == ["assigned"]:
            self._assigned()
        elif words[0] == "told" and len(words) == 2:
            self._told(words[1])  # all that came before was heard
        elif words[0] == "replaced" and len(words) == 4 and words[2].isdecimal():
            self._replaced(words[1], int(words[2][:20]), words[3])
        elif len(words) == 3 and words[0] in self._of_container:
            self._of_container[words[0]](words[1], words[2])

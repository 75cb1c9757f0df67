"""Heartbeat: an app that runs is known to run for as long as its client says so."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from qmodal.exception import Error
from qmodal.store.apps import HEARTBEAT_SECONDS, AppState
from qmodal.transport.defects import survive

if TYPE_CHECKING:
    from qmodal.client.client import Client


class Heartbeat:
    """Tells the server that an ephemeral app's client lives; without it the app ends in 30 s."""

    def __init__(self, client: Client, app_id: str, number: int, state: AppState) -> None:
        self._client = client
        self._app_id = app_id
        self._state = state
        self.number = number
        self._older: list[int] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.is_lost = False

    def __enter__(self) -> Heartbeat:
        # A detached app without a client ends as soon as it has nothing to do.
        self._client.run(self._client.apps.beat(self._app_id, self.number, self._state))
        self._thread.start()
        return self

    def follow(self, number: int) -> None:
        """That is the current version from now on; earlier ones are kept, as calls are pinned to them."""
        if number != self.number:
            self._older = [*self._older, self.number]
            self.number = number

    def __exit__(self, *_failure: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            # The next one may get through; 30 s are six beats.
            with survive("the app's heartbeat"), suppress(Error):
                # No longer than until the next one: whoever ends the app waits for this thread.
                op = self._client.apps.beat(
                    self._app_id,
                    self.number,
                    self._state,
                    older=self._older,
                    patience=HEARTBEAT_SECONDS,
                )
                self.is_lost = not self._client.blocking.run(op)
            if self.is_lost:
                return

"""End detached apps whose client has left and that have nothing to do any more."""

from __future__ import annotations

import time
from collections.abc import Mapping

from qmodal.client.client import Client
from qmodal.store.apps import AppRecord
from qmodal.store.observing import Observation
from qmodal.transport.gather import all_of
from qmodal.transport.operation import Op
from qmodal_autoscaler.journal import Journal

PROLONG_SECONDS = 60.0


class Detached:
    """Looks at the detached apps that have active pools, once in each full round.

    An app that has none has no containers either, and its record expires by itself.
    """

    def __init__(self, client: Client, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._alone: set[str] = set()
        self._prolonged: dict[str, float] = {}

    def tend(
        self, apps: Mapping[str, AppRecord], observations: Mapping[str, Observation]
    ) -> Op[None]:
        """End those that were alone before the observations were made, and have nothing to do."""
        detached = {app: record for app, record in apps.items() if record.state == "detached"}
        busy = {each.app for each in observations.values() if each.inflight}
        self._prolonged = {app: at for app, at in self._prolonged.items() if app in detached}
        for app, record in detached.items():
            if app in busy:
                yield from self._prolong(record)
            elif app in self._alone:
                self._journal.change(record.name, f"{app} has done its work and ends")
                with self._journal.surviving(app, "it cannot be stopped", settles=True):
                    yield from self._client.apps.stop(record)
        self._alone &= detached.keys()
        asked = [app for app in detached if app not in self._alone]
        if not asked:
            return
        there = yield from all_of(*(self._client.apps.has_client(app) for app in asked))
        gone = {app for app, is_there in zip(asked, there, strict=True) if not is_there}
        self._alone |= gone

    def _prolong(self, record: AppRecord) -> Op[None]:
        now = time.monotonic()
        if now - self._prolonged.get(record.app_id, 0.0) > PROLONG_SECONDS:
            self._prolonged[record.app_id] = now
            yield from self._client.apps.prolong(record.app_id, record.version)

"""Waits: says once why a call waits that nobody works on, as no worker, no autoscaler or no room is there for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qmodal.client.context import is_local
from qmodal.client.waiting.why import FleetState, fleet_state, reason_of
from qmodal.exception import Error
from qmodal.store.watch.reasons import CALM, Kind, Reason, line_of
from qmodal.telemetry.events import CALL_WAITS, emit

if TYPE_CHECKING:
    from qmodal.store.fleet import Fleet
    from qmodal.store.watch.boxes import Boxes
    from qmodal.store.watch.observing import Observation, Observing
    from qmodal.transport.operation import Op

# However many calls wait, a pool is looked at once in this time, and so many pools.
LOOK_AGAIN_SECONDS, MOST_LOOKS = 10.0, 100
# What is wrong with the fleet is for the program that has called first to say, not for each container.
OF_ALL_POOLS: frozenset[Kind] = frozenset({"fleet", "workers", "autoscaler"})
# What a program has asked for itself, or is over soon.
UNSAID: frozenset[Kind] = CALM | {"maximum", "window", "stopped"}


class Waits:
    """What a process has said about its waiting calls; each reason once. `server`: its URL, without a password."""

    def __init__(self, server: str, fleet: Fleet, boxes: Boxes, observing: Observing) -> None:
        self._server = server
        self._fleet = fleet
        self._boxes = boxes
        self._observing = observing
        self._said: set[tuple[Kind, str]] = set()
        self.looked: dict[str, float] = {}  # when each pool was looked at, of late

    def look(self, pool: str) -> Op[None]:
        """Say why the call waits, if that is known and was not said. What fails here fails no call."""
        if not self._may_look(pool, time.monotonic()):
            return
        try:
            found = yield from self._reason(pool)
        except Error:
            return
        if found is None:
            return
        seen, reason = found
        concerns = "" if reason.kind in OF_ALL_POOLS else pool
        if (reason.kind, concerns) not in self._said and (concerns or is_local()):
            self._said.add((reason.kind, concerns))
            emit(CALL_WAITS, label=line_of(seen.label), reason=reason.sentence(pool), pool=pool)

    def _may_look(self, pool: str, now: float) -> bool:
        looked = self.looked  # threads share it
        if pool in looked or len(looked) >= MOST_LOOKS:
            for each, at in list(looked.items()):
                if now - at >= LOOK_AGAIN_SECONDS:
                    looked.pop(each, None)
        if pool in looked or len(looked) >= MOST_LOOKS:
            return False
        looked[pool] = now
        return True

    def _reason(self, pool: str) -> Op[tuple[Observation, Reason] | None]:
        """Why nobody works on the pool; None if somebody does, or will soon as far as can be seen."""
        (seen,) = yield from self._observing.observe([pool])
        if seen is None or not seen.inflight:
            return None
        state = yield from fleet_state(self._fleet, self._boxes, self._server)
        reason = reason_of(seen, state)
        return (seen, reason) if is_said(reason.kind, pool, state) else None


def is_said(kind: Kind, pool: str, state: FleetState) -> bool:
    """Whether a caller is told, as nothing runs for it and nothing will soon."""
    states = {each.state for each in state.of_pool(pool) if not each.is_over}
    if states - {"starting"} or kind in UNSAID:
        return False
    return not states or kind in OF_ALL_POOLS or kind == "paused"

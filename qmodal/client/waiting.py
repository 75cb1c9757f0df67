"""Waits: says once why a call waits that nobody works on, as no worker, no autoscaler or no room is there for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from qmodal.client.context import is_local
from qmodal.exception import Error, clause
from qmodal.store.server import server_ms
from qmodal.telemetry.events import CALL_WAITS, emit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmodal.store.fleet import ContainerReport, Fleet
    from qmodal.store.watch.observing import Observation, Observing
    from qmodal.transport.operation import Op

# However many calls wait, a pool is looked at once in this time, and so many pools.
LOOK_AGAIN_SECONDS, MOST_LOOKS = 10.0, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a pool that somebody waits for has to hope for; `room`: containers that all workers may run."""

    server: str
    workers: int
    room: int
    leader: str | None
    containers: Sequence[ContainerReport]  # of all pools, those that have failed included
    seen: Observation


class Cause(NamedTuple):
    """Why nobody works on a pool, with what to do; `concerns` names the pool, or is empty for all of them."""

    kind: str
    text: str
    concerns: str = ""


class Waits:
    """What a process has said about its waiting calls; each cause once. `server`: its URL, without a password."""

    def __init__(self, server: str, fleet: Fleet, observing: Observing) -> None:
        self._server = server
        self._fleet = fleet
        self._observing = observing
        self._said: set[tuple[str, str]] = set()
        self.looked: dict[str, float] = {}  # when each pool was looked at, of late

    def look(self, pool: str) -> Op[None]:
        """Say why the call waits, if that is known and was not said. What fails here fails no call."""
        if not self._may_look(pool, time.monotonic()):
            return
        try:
            situation = yield from self._situation(pool)
        except Error:
            return
        cause = None if situation is None else cause_of(situation)
        if situation is None or cause is None or (cause.kind, cause.concerns) in self._said:
            return
        # What is wrong with the fleet is for the program that has called first to say, not for each container.
        if cause.concerns or is_local():
            self._said.add((cause.kind, cause.concerns))
            emit(CALL_WAITS, label=_printable(situation.seen.label), reason=cause.text, pool=pool)

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

    def _situation(self, pool: str) -> Op[Situation | None]:
        """How things are; None for a pool that is not known, or has nothing to do."""
        fleet = self._fleet
        (seen,) = yield from self._observing.observe([pool])
        if seen is None or not seen.inflight:
            return None
        # Not who was not given up: without a worker and an autoscaler, nobody gives up the last worker.
        leases = yield from fleet.workers()
        now = yield from server_ms()
        workers = [worker for worker, ends in leases.items() if ends > now]
        reports = yield from fleet.reports(workers)
        containers = yield from fleet.containers(workers)
        return Situation(
            server=self._server,
            workers=len(workers),
            room=sum(each.max_containers for each in reports),
            leader=(yield from fleet.leader()),
            containers=[each for listed in containers.values() for each in listed],
            seen=seen,
        )


def cause_of(situation: Situation) -> Cause | None:
    """Why no container serves the pool; None if one does, or will soon as far as can be seen."""
    seen = situation.seen
    own = [each for each in situation.containers if each.pool == seen.pool]
    alive = [each for each in own if not each.is_over]
    if any(each.state != "starting" for each in alive):
        return None
    if seen.paused:
        text = f"its pool is paused; `qmodal pool resume {seen.pool}` lets it go on"
        return Cause("paused", text, seen.pool)
    missing = _missing(situation)
    if missing is not None or alive:
        return missing
    if own:
        why = _printable(clause(own[-1].detail or "they end before they are ready"))
        text = f"its containers do not start: {why}. `qmodal app logs` shows what they have printed"
        return Cause("start", text, seen.pool)
    running = sum(not each.is_over for each in situation.containers)
    if running >= situation.room:
        text = (
            f"no worker has room, as {running} of {situation.room} containers run. Start another worker, or "
            "one with a higher --max-containers; `qmodal container list` shows what runs"
        )
        return Cause("room", text, seen.pool)
    return None


def _missing(situation: Situation) -> Cause | None:
    where = situation.server
    if not situation.workers and situation.leader is None:
        text = (
            f"no worker and no autoscaler use {where}. Start `qmodal up` on this machine, or `qmodal worker` "
            "on the machines that shall run it and `qmodal autoscaler` on one of them"
        )
        return Cause("fleet", text)
    if not situation.workers:
        text = f"no worker uses {where}. Start `qmodal worker` on the machines that shall run it"
        return Cause("workers", text)
    if situation.leader is None:
        text = f"no autoscaler uses {where}. Start `qmodal autoscaler` on some machine"
        return Cause("autoscaler", text)
    return None


def _printable(text: str) -> str:
    """On one line, whatever somebody has written into Redis."""
    return "".join(each if each.isprintable() else " " for each in text)

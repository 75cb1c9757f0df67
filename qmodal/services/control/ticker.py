"""The ticker: looks what is due, several times a second, and puts a job in line for it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis.exceptions import RedisError, ResponseError

from qmodal.client.client import Client
from qmodal.exception import EnqueueError
from qmodal.services.control.chores.book import ChoreBook
from qmodal.services.control.jobs.queues import JobQueue
from qmodal.services.control.schedules.plan import Due, Plan
from qmodal.services.control.schedules.table import Key, Schedule, Table
from qmodal.store.server import server_ms
from qmodal.telemetry.events import CONTROL_TROUBLE, emit
from qmodal.transport.defects import survive
from qmodal.transport.operation import Op

FIRE, CHORE = "fire", "chore"
# In seconds. What is noted on the server is read so often, unless that takes more than a twentieth of the time.
READ_SECONDS, READ_SHARE = 0.5, 20
LONGEST_WAIT, SHORTEST_WAIT = 0.25, 0.005


@dataclass(slots=True)
class View:
    """What the ticker has seen last, for metrics."""

    schedules: Mapping[Key, Schedule] = field(default_factory=dict)
    is_first: bool = False


class Ticker:
    """Puts due slots and chores in line, with the server's clock; several may run.

    One of them looks first, and the others a little later, at what it has left: as a rule nothing.
    """

    def __init__(
        self, client: Client, name: str, table: Table, fires: JobQueue, chores: JobQueue
    ) -> None:
        self.view = View()
        self._client = client
        self._name = name
        self._fires = fires
        self._chores = chores
        self._book = ChoreBook()
        self._table = table
        self._plan = Plan()
        self._ahead = 0.0  # ms that the server's clock is ahead of our monotonic one
        self._read_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set."""
        pause = 0.0
        while not stop.wait(pause):
            pause = LONGEST_WAIT
            with survive("looking for due slots"):
                try:
                    pause = self._tick()
                except RedisError as error:
                    emit(CONTROL_TROUBLE, activity="looking for due slots", reason=str(error))
        with survive("leaving the first place"):
            self._client.run(self._client.schedules.resign(self._name))

    def _tick(self) -> float:
        """Put in line what is due; how long nothing will be."""
        if time.monotonic() >= self._read_at:
            self._read()
        is_first = self.view.is_first
        found = self._plan.due(self.now(), is_first=is_first)
        if found and not is_first:
            self._read()  # the first one may have done it since
            found = self._plan.due(self.now(), is_first=is_first)
        for due in [*found, *self._stuck()]:
            with _surviving(f"putting a slot of {due.schedule.key} in line", self._fires):
                self._put(due)
        if is_first:
            with _surviving("putting chores in line", self._chores):
                self._put_chores()
        wait = (self._plan.next_at(self.now()) - self.now()) / 1000
        return min(LONGEST_WAIT, max(SHORTEST_WAIT, wait))

    def _stuck(self) -> list[Due]:
        """What a process that died has taken with it: it is not in line, and nothing else is."""
        found = self._plan.stuck(self.now())
        return [] if found and self._fires.queue.count else found

    def now(self) -> int:
        """The server's clock, in ms since 1970."""
        return round(time.monotonic() * 1000 + self._ahead)

    def _read(self) -> None:
        began = time.monotonic()
        schedules = self._client.run(self._look())
        self._plan.take(schedules, self.now())
        self.view.schedules = schedules
        took = time.monotonic() - began
        self._read_at = began + max(READ_SECONDS, READ_SHARE * took)

    def _look(self) -> Op[Mapping[Key, Schedule]]:
        before = time.monotonic()
        now = yield from server_ms()
        self._ahead = now - (before + time.monotonic()) * 500
        self.view.is_first = yield from self._client.schedules.is_first(self._name)
        if self.view.is_first:
            with survive("reading how chores went"):
                self._book.take((yield from self._client.chores.all()))
        return (yield from self._table.all())

    def _put(self, due: Due) -> None:
        schedule, slot = due.schedule, due.slot
        identity = schedule.cadence.identity
        job = f"slot-{_short(*schedule.key, identity)}-{slot}"
        if due.attempt > 1:
            job += f"-{due.attempt}"
        self._fires.put(job, FIRE, [*schedule.key, slot, identity])
        self._plan.sent(due, self.now())

    def _put_chores(self) -> None:
        for name, slot in self._book.due(self.now()):
            self._chores.put(f"chore-{name}-{slot}", CHORE, [name, slot])


@contextmanager
def _surviving(activity: str, jobs: JobQueue) -> Iterator[None]:
    """Go on if one job cannot be put in line; a key of another type than rq expects is removed."""
    with survive(activity):
        try:
            yield
        except ResponseError as error:
            jobs.mend()
            raise EnqueueError(str(error)) from error
        except RedisError as error:  # a server that is away, or changes its master
            raise EnqueueError(str(error)) from error


def _short(*parts: str) -> str:
    """A name for all of these, of letters and digits."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

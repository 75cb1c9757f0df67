"""The fleet: boxes and their leases, what they should run and do run, and who leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import msgpack

from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.store.reading import LATEST_MS
from qmodal.store.watch.reasons import REASONS_MS, Reasons
from qmodal.transport.operation import Op, ask, ask_each, ask_one
from qmodal.transport.script import script
from qmodal.wire.ids import worker_of

LEASE_MS = 10_000
RENEW_SECONDS = 2.0
LEADER_MS = 5_000
LINE_MS = 5_000
# Reports of containers that a process keeps as it has read them.
MOST_REPORTS = 1024
ContainerState = Literal["starting", "ready", "draining", "failed", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """A box as it registers itself: `cpus`, `memory` and `gpus` are what it offers to containers.

    `gpus`: each as `Gpu.text` (`spec/needs/gpus.py`) writes it. `is_measured`: nobody has said how many containers it
    may run, so it takes as many as its processors and memory carry, and no more than `max_containers`.
    """

    worker: str
    host: str
    pid: int
    cpus: float
    memory: int  # bytes
    max_containers: int
    python: str
    version: str
    labels: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    ahead: int = 0  # assignments beyond `max_containers` that it takes, and starts as there is room
    is_measured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerReport:
    """A container as its worker reports it; times in ms since 1970."""

    container: str
    pool: str
    app: str
    function: str
    label: str
    number: int  # of the app version it runs
    state: ContainerState
    since: int
    pid: int = 0
    connection: int = 0  # client id of the connection it claims on; 0 = not connected
    detail: str = ""  # why it failed or ended
    start_ms: int = 0  # how long it took to become ready
    pinned: bool = False  # its pool keeps to that version
    unfit: bool = False  # it ends because an input needs a box with another Python or qmodal
    leaving: bool = False  # it ends by itself: it claims no more, and its exit hooks may run
    gave_way: bool = False  # it ends because it was idle, and others waited for its place
    gpus: tuple[str, ...] = ()  # UUIDs of the GPUs that are leased to it

    @property
    def is_over(self) -> bool:
        """Whether it failed or ended: nothing of it runs any more."""
        return self.state in ("failed", "ended")

    @property
    def is_news(self) -> bool:
        """Whether the autoscaler may have something to do at once: not while it is on its way to be ready."""
        return self.state != "starting" or self.leaving


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLine:
    """The pools that wait for room on the boxes, as the leader has said lately.

    `places`: containers that the boxes may run together; `waiting`: pools that wait; `first`: ids of the first of them,
    in about the order of their turns.
    """

    places: int
    waiting: int
    first: tuple[str, ...] = ()

    def turn(self, pool: str) -> str:
        """The pool's turn, as people are told; empty if it does not wait."""
        if pool in self.first:
            return f"{self.first.index(pool) + 1} of {self.waiting}"
        return ""


def living(leases: Mapping[str, float]) -> list[str]:
    """The boxes among `leases` (box -> end of its lease in server ms) that were not given up.

    What a box that was given up (0) has reported is not true any more: its containers are being
    reclaimed, and what they still write is refused.
    """
    return [worker for worker, ends in leases.items() if ends > 0]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Operations on boxes, and the autoscaler's writes."""

    keys: Keys

    def enroll(self, report: WorkerReport, cordon: Mapping[str, int] | None = None) -> Op[None]:
        """Register a box with a fresh lease, cordoned or drained since those moments (ms) if it was before."""
        keys, worker = self.keys, report.worker
        yield from ask_one(
            *script("enroll").command(
                (keys.worker(worker), keys.workers),
                (worker, packed(report), LEASE_MS, keys.wake),
                more=[part for field, since in (cordon or {}).items() for part in (field, since)],
            )
        )

    def renew(self, worker: str, reports: Mapping[str, ContainerReport | None]) -> Op[bool]:
        """Renew the lease and report changed containers (None: gone); False if given up."""
        flat: list[Any] = []
        for container, report in reports.items():
            flat += (container, b"" if report is None else packed(report))
        reply = yield from ask_one(
            *script("renew").command(
                (self.keys.workers, self.keys.containers(worker)), (worker, LEASE_MS), more=flat
            )
        )
        return bool(reply)

    def wake(self, *pools: str) -> Op[None]:
        """Hint to the autoscaler that the pools (or, if none is named, everything) need a look."""
        yield from ask(*((b"PUBLISH", self.keys.wake, pool) for pool in pools or ("",)))

    def nudge(self, workers: Sequence[str]) -> Op[None]:
        """Hint to the boxes that they should look at once at what they should run."""
        if workers:
            yield from ask(*((b"PUBLISH", self.keys.nudge(each), b"assigned") for each in workers))

    def nudge_stopped(self, container: str, *, graceful: bool) -> Op[None]:
        """Ask a container's box to end it: now, or once it has finished what it runs."""
        channel = self.keys.nudge(worker_of(container))
        how = "graceful" if graceful else "now"
        yield from ask_one(b"PUBLISH", channel, f"stopped {container} {how}")

    def end_waits(self, connections: Sequence[int]) -> Op[None]:
        """Have claims end that wait for something to come, by ending their connections.

        Not by CLIENT UNBLOCK: Redis 7.0 crashes if it is sent to a client that CLIENT PAUSE keeps
        waiting. Whoever is at something else is left alone: ids are given anew by a restarted server.
        """
        (listed,) = yield from ask((b"CLIENT", b"LIST", b"ID", *connections), patience=0.5)
        waiting = [each for each in map(_client_of, listed.splitlines()) if each]
        if waiting:
            yield from ask(*((b"CLIENT", b"KILL", b"ID", each) for each in waiting), patience=0.5)

    def retire(self, worker: str) -> Op[None]:
        """Remove a box that has stopped and holds nothing, or was cleared by the sweep."""
        keys = self.keys
        yield from ask_one(
            *script("retire").command(
                (
                    keys.workers,
                    keys.worker(worker),
                    keys.assigned(worker),
                    keys.containers(worker),
                ),
                (worker, keys.wake),
            )
        )

    def sweep(self, leases: Mapping[str, float], *, latest: int = 0) -> Op[dict[str, int]]:
        """Give up these boxes, unless their lease ends at another time meanwhile, or has not ended.

        Gives up nobody if the server gets to it after `latest` (ms of its own clock; 0: any time).
        Returns when each was given up, in ms of the server's clock; those that were before (0 in
        `leases`) are named, too.
        """
        flat = [part for worker, ends in leases.items() for part in (worker, ends)]
        records = self.keys.worker("")
        reply = yield from ask_one(
            *script("sweep").command((self.keys.workers,), (records, latest), more=flat)
        )
        return {
            worker.decode(): since for worker, since in zip(reply[::2], reply[1::2], strict=True)
        }

    def workers(self) -> Op[dict[str, float]]:
        """All boxes, with the end of their lease in server ms (0: given up)."""
        key = self.keys.workers
        reply = yield from ask_one(b"ZRANGE", key, 0, -1, b"WITHSCORES")
        named = [(reading.text(worker, key), ends) for worker, ends in reading.pairs(reply)]
        return {
            worker: min(max(-LATEST_MS, float(ends)), LATEST_MS)
            for worker, ends in named
            if worker is not None
        }

    def living_workers(self) -> Op[list[str]]:
        """The boxes that were not given up."""
        return living((yield from self.workers()))

    def living_containers(self) -> Op[dict[str, list[ContainerReport]]]:
        """The containers that exist, by living box; boxes of which that cannot be read are left out."""
        workers = yield from self.living_workers()
        listed = yield from self.containers(workers)
        return {
            worker: [each for each in containers if not each.is_over]
            for worker, containers in listed.items()
        }

    def reports(self, workers: Sequence[str]) -> Op[list[WorkerReport]]:
        """What the boxes are; those without a record (that can be read) are left out."""
        names = [self.keys.worker(worker) for worker in workers]
        replies = yield from ask_each((b"HGET", name, b"report") for name in names)
        found = [
            (worker, reading.report(reply, WorkerReport, name))
            for worker, name, reply in zip(workers, names, replies, strict=True)
            if reply is not None and reading.is_readable(reply, name)
        ]
        return [each for worker, each in found if each is not None and each.worker == worker]

    def containers(self, workers: Sequence[str]) -> Op[dict[str, list[ContainerReport]]]:
        """What each box runs, as it last reported; boxes of which that cannot be read are left out."""
        listed: dict[str, list[ContainerReport]] = {}
        for worker, name, reply in (yield from self._of_boxes(workers, self.keys.containers)):
            found = [(field, _read(packed, name)) for field, packed in reading.pairs(reply)]
            listed[worker] = [
                each
                for field, each in found
                if each is not None and each.container.encode() == field
            ]
        return listed

    def assigned(self, workers: Sequence[str]) -> Op[dict[str, dict[str, str]]]:
        """What each box should run, container id -> pool id; boxes of which that cannot be read are left out."""
        return {
            worker: reading.texts(reply, name)
            for worker, name, reply in (yield from self._of_boxes(workers, self.keys.assigned))
        }

    def _of_boxes(
        self, workers: Sequence[str], key: Callable[[str], str]
    ) -> Op[list[tuple[str, str, Any]]]:
        """Box, name and content of the hash that each box has; without those of another type."""
        names = [key(worker) for worker in workers]
        replies = yield from ask_each((b"HGETALL", name) for name in names)
        found = zip(workers, names, replies, strict=True)
        return [each for each in found if reading.is_readable(each[2], each[1])]

    def assign(self, worker: str, changes: Mapping[str, str | None], *, epoch: int) -> Op[bool]:
        """Put containers on a box (id -> pool) or take them off (None); False: leads no more."""
        flat = [part for container, pool in changes.items() for part in (container, pool or "")]
        reply = yield from ask_one(
            *script("assign").command(
                (self.keys.epoch, self.keys.workers, self.keys.assigned(worker)),
                (epoch, worker, self.keys.nudge(worker)),
                more=flat,
            )
        )
        return bool(reply)

    def say_line(self, line: WaitingLine | None) -> Op[None]:
        """Say which pools wait for room, or that none does; it is forgotten after 5 s."""
        if line is None:
            yield from ask_one(b"UNLINK", self.keys.line)
        else:
            yield from ask_one(b"SET", self.keys.line, msgpack.packb(asdict(line)), b"PX", LINE_MS)

    def line(self) -> Op[WaitingLine | None]:
        """Which pools wait for room; None if none do, or nobody leads."""
        key = self.keys.line
        (packed,) = yield from ask_each([(b"GET", key)])
        if packed is None or not reading.is_readable(packed, key):
            return None
        return reading.report(packed, WaitingLine, key)

    def say_reasons(self, reasons: Reasons) -> Op[None]:
        """Say why pools do not get the containers that they want, or that all do; it is forgotten after 5 s."""
        key = self.keys.reasons
        if reasons.of:
            yield from ask_one(b"SET", key, reasons.packed(), b"PX", REASONS_MS)
        else:
            yield from ask_one(b"UNLINK", key)

    def reasons(self) -> Op[Reasons]:
        """Why pools do not get the containers that they want; none if all do, or nobody leads."""
        key = self.keys.reasons
        (packed,) = yield from ask_each([(b"GET", key)])
        return Reasons.opened(packed, key) if reading.is_readable(packed, key) else Reasons()

    def call_for_boxes(self, seconds: float) -> Op[bool]:
        """Whether boxes may be called for now; then nobody may again for so many seconds."""
        lifetime = round(seconds * 1000)
        reply = yield from ask_one(b"SET", self.keys.shortage, 1, b"PX", lifetime, b"NX")
        return reply is not None

    def lead(self, autoscaler: str) -> Op[int]:
        """Take or keep the leadership for 5 s; the epoch, or 0 if another leads."""
        reply: int = yield from ask_one(
            *script("lead").command((self.keys.leader, self.keys.epoch), (autoscaler, LEADER_MS))
        )
        return reply

    def leader(self) -> Op[str | None]:
        """The autoscaler that leads, if any."""
        reply = yield from ask_one(b"GET", self.keys.leader)
        return None if reply is None else reply.decode(errors="replace")

    def resign(self, autoscaler: str) -> Op[None]:
        """Give the leadership up at once, if held."""
        yield from ask_one(*script("resign").command((self.keys.leader,), (autoscaler,)))


def _client_of(line: bytes) -> bytes:
    """The id in a line of CLIENT LIST, if that client waits in a claim."""
    about = dict(pair.partition(b"=")[::2] for pair in line.split(b" "))
    is_waiting = about.get(b"cmd") == b"xreadgroup" and b"b" in about.get(b"flags", b"")
    return about.get(b"id", b"") if is_waiting else b""


@lru_cache(maxsize=MOST_REPORTS)
def _read(packed: bytes, where: str) -> ContainerReport | None:
    """The report in these bytes: most are read again and again as they were."""
    return reading.report(packed, ContainerReport, where)


def packed(report: WorkerReport | ContainerReport) -> bytes:
    """As a report travels; half a character, as a file name may have, must not stop the lease."""
    found: bytes = msgpack.packb(asdict(report), unicode_errors="backslashreplace")
    return found

"""A container's shared memory: what it is doing, readable by its worker without a system call.

The container writes its half as a seqlock (odd while it writes); the worker reads it as a hint
and never kills, releases or charges on one reading. The other half is the worker's: whether to
stop claiming, which input to interrupt, how often it heard of a cancelled one, and until when its
lease is good.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qmodal_workers.ipc import running_table
from qmodal_workers.ipc.running_table import RunningInput, RunningTable

_RECORD_SIZE = 16384
SIZE = _RECORD_SIZE + running_table.SIZE
MOST_HELD = 256
State = Literal["starting", "idle", "busy", "stopped"]
STATES: tuple[State, ...] = ("starting", "idle", "busy", "stopped")
# Why the worker interrupts an input; the container raises InputTimeout or InputCancellation.
# STOPPED: it has no outcome, and is given back.
TIMEOUT, CANCELLED, STOPPED = 1, 2, 3

# The names of what is held stand behind the container's half, as text: room for the longest ones.
_NAMES_AT, _MOST_BYTES = 128, MOST_HELD * 48
_AGENT_AT = 16320
# The lease until the worker has said how long it is good: a day.
_UNSAID_NS = 24 * 3600 * 10**9
Entry = tuple[int, str]  # lane, id
# Flags: bit by bit, and from ONE_RUNS on how many entries are started. EACH: the serials after that of
# the last publication are the entries that follow; else they are inputs of the same one.
WAITING, AHEAD, EACH, ONE_RUNS = 1, 2, 4, 8
_NAME = re.compile(rb"([12]):(\d{1,20})-(\d{1,20})")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_clock() -> int:
    """Nanoseconds that also pass while the machine sleeps, as they do for the server."""
    return time.clock_gettime_ns(_CLOCK)


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """The container's half.

    `serial` numbers the inputs that this container started (0: none runs now); `started` and
    `tick` are monotonic nanoseconds; `connection` is the client id of its claiming connection;
    `held` are the claimed entries (lane, id) with those started first, and `running` of them are
    started, which counts until their outcome is stored: with `serial` 0 user code has ended. Of a
    pack the input `part` of its call runs. `ahead`: there is a prefetch, which is not listed.
    `waiting`: it is blocked in another call's `.get()`.

    If it runs several inputs at once, these are `inputs`, longest first, and what is held; `serial`
    and `started` are those of the first of them, and `running` counts also what has ended meanwhile.
    """

    state: State = "starting"
    connection: int = 0
    serial: int = 0
    started: int = 0
    timeout: int = 0  # nanoseconds; 0 = none
    tick: int = 0  # when the release thread last ran; 0 = it is not armed
    completed: int = 0
    waiting: bool = False
    ahead: bool = False
    running: int = 0
    part: int = 0
    held: tuple[Entry, ...] = ()
    inputs: tuple[RunningInput, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """The worker's half: `target` is the serial of the input to interrupt, `why` one of the codes."""

    draining: bool = False
    target: int = 0
    why: int = 0


class ContainerHalf(ctypes.Structure):
    """What the container writes. Each field is a word of eight bytes, which is written at once.

    `sequence` is odd while it writes. `base` is the serial of the last publication; of the names of
    claimed entries, `first` to `end` were held then. `tick` is the release thread's and is written apart.
    """

    sequence: int
    state: int  # index in STATES
    connection: int
    serial: int
    started: int
    timeout: int
    completed: int
    flags: int
    end: int
    first: int
    part: int
    base: int
    length: int  # of the names, in bytes
    rows: int  # of the table of running inputs, that have been in use; 0 if it runs one at a time
    tick: int


class AgentHalf(ctypes.Structure):
    """What the worker writes, field by field; `lease` is a time of `lease_clock`, 0 before it is known."""

    draining: int
    why: int
    target: int
    lease: int
    cancels: int  # how many cancelled inputs it has heard of
    news: int  # how often it has written `target` or `cancels`


for _half in (ContainerHalf, AgentHalf):
    _half._fields_ = [(name, ctypes.c_uint64) for name in _half.__annotations__]
assert ctypes.sizeof(ContainerHalf) <= _NAMES_AT
assert _NAMES_AT + _MOST_BYTES <= _AGENT_AT <= _RECORD_SIZE - ctypes.sizeof(AgentHalf)


class SharedRecord:
    """One container's shared memory, as its two halves.

    Between two publications the container only writes `container.started` and then
    `container.serial`: whoever reads them the other way round takes no input for older than it is.
    `heard`: the container asked the server for what it has claimed when its worker had heard of so
    many cancelled inputs. `connection` and `timeout` are published with all else.
    The cells are the same words as the fields of that name; a cell's `value` is read and written in
    two thirds of the time, which counts for what is done with each input of a pack.
    """

    __slots__ = (
        "_fresh",
        "_map",
        "_sequence",
        "agent",
        "cancels_cell",
        "connection",
        "container",
        "fd",
        "heard",
        "news_cell",
        "serial_cell",
        "started_cell",
        "table",
        "target_cell",
        "timeout",
    )

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.connection = 0
        self.timeout = 0
        self.heard = 0
        self._fresh: Sequence[str] | None = None
        self._map = mmap.mmap(fd, SIZE)
        self.container = ContainerHalf.from_buffer(self._map)
        self.agent = AgentHalf.from_buffer(self._map, _AGENT_AT)
        self.serial_cell = self._cell(_offset(ContainerHalf, "serial"))
        self.started_cell = self._cell(_offset(ContainerHalf, "started"))
        self.target_cell = self._cell(_AGENT_AT + _offset(AgentHalf, "target"))
        self.cancels_cell = self._cell(_AGENT_AT + _offset(AgentHalf, "cancels"))
        self.news_cell = self._cell(_AGENT_AT + _offset(AgentHalf, "news"))
        self.table = RunningTable(self._map, _RECORD_SIZE)
        self._sequence = 0

    @classmethod
    def create(cls) -> SharedRecord:
        """A fresh record; its descriptor is not inherited unless passed on."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("qmodal-record", os.MFD_CLOEXEC)
        else:
            fd, name = tempfile.mkstemp(prefix="qmodal-record-")
            Path(name).unlink()
        os.ftruncate(fd, SIZE)
        return cls(fd)

    def _cell(self, offset: int) -> ctypes.c_uint64:
        return ctypes.c_uint64.from_buffer(self._map, offset)

    def write(self, doing: ContainerStatus) -> None:
        """The container: publish the whole half."""
        self.connection, self.timeout = doing.connection, doing.timeout
        self.hold([name_of(*entry) for entry in doing.held])
        half = self.begin(STATES.index(doing.state), doing.serial, doing.started)
        half.completed = doing.completed
        half.flags = ONE_RUNS * doing.running | AHEAD * doing.ahead | WAITING * doing.waiting
        half.first = 0
        half.end = min(len(doing.held), MOST_HELD)
        half.part = doing.part
        self.publish()

    def hold(self, names: Sequence[str]) -> None:
        """The container: what it has claimed, in order; published with what is posted next."""
        self._fresh = names[:MOST_HELD]

    def begin(self, state: int, serial: int, started: int) -> ContainerHalf:
        """The container: its half, to write `completed`, `flags`, `first`, `end` and `part`, then `publish`.

        Nothing in between may raise: the worker reads nothing until then. No name is written twice.
        """
        half = self.container
        half.sequence = self._sequence + 1
        if self._fresh is not None:
            text = " ".join(self._fresh).encode()
            self._map[_NAMES_AT : _NAMES_AT + len(text)] = text
            half.length = len(text)
            self._fresh = None
        half.state = state
        half.serial = half.base = serial
        half.started = started
        half.connection = self.connection
        half.timeout = self.timeout
        return half

    def publish(self) -> None:
        """The container: what was written since `begin` may be read."""
        self._sequence += 2
        self.container.sequence = self._sequence

    def tick(self, moment: int) -> None:
        """The release thread: it ran at that moment; apart from the rest, which is another's."""
        self.container.tick = moment

    def read(self) -> ContainerStatus | None:
        """The worker: a consistent reading, or None if the container was always writing."""
        half = self.container
        for _ in range(5):
            before = half.sequence
            copy = ContainerHalf.from_buffer_copy(self._map)
            names = self._map[_NAMES_AT : _NAMES_AT + min(copy.length, _MOST_BYTES)]
            copy.serial = half.serial
            copy.started = half.started
            if before == half.sequence and before % 2 == 0:
                if copy.rows:
                    return _parse_many(copy, self.table.running(copy.rows))
                return _parse(copy, names)
        return None

    def age(self, now: int) -> int:
        """The worker: for how many nanoseconds an input runs, at a glance; 0 if none does."""
        half = self.container
        return max(0, now - half.started) if half.serial else 0

    @property
    def side_by_side_limit(self) -> int:
        """The worker: the timeout in nanoseconds, if the container runs several inputs at once; else 0."""
        half = self.container
        return half.timeout if half.rows else 0

    def tell(self, told: AgentCommand) -> None:
        """The worker: publish its half; `why` before `target`, which is what is acted on."""
        half = self.agent
        half.draining = told.draining
        half.why = told.why
        half.target = told.target
        half.news += 1

    def told(self) -> AgentCommand:
        """The container: what the worker wants."""
        half = self.agent
        return AgentCommand(bool(half.draining), half.target, half.why)

    def cancelled(self) -> None:
        """The worker: it has heard that one of the claimed inputs was cancelled."""
        self.agent.cancels += 1
        self.agent.news += 1

    @property
    def cancels(self) -> int:
        """The container: how many of them its worker has heard of."""
        return self.agent.cancels

    def hold_until(self, moment: int) -> None:
        """The worker: nobody else takes its inputs before that moment of `lease_clock`."""
        self.agent.lease = moment

    @property
    def held_until(self) -> int:
        """The container: that moment; 0 before the worker has said one."""
        return self.agent.lease

    @property
    def lease_left(self) -> int:
        """The container: nanoseconds for which nobody else takes its inputs; none left: perhaps."""
        until = self.agent.lease
        return until - lease_clock() if until else _UNSAID_NS

    @property
    def is_draining(self) -> bool:
        """Whether the worker wants no further claims; cheap enough to ask between inputs."""
        return self.agent.draining != 0

    def close(self) -> None:
        """Close it; it is unmapped once nobody holds one of its halves any more."""
        del self.container, self.agent
        del self.serial_cell, self.started_cell, self.target_cell, self.cancels_cell
        del self.news_cell
        self.table.close()
        with suppress(BufferError):
            self._map.close()
        os.close(self.fd)


def _offset(half: type[ctypes.Structure], field: str) -> int:
    found: int = getattr(half, field).offset
    return found


def name_of(lane: int, entry: str) -> str:
    """How a claimed entry stands in a record."""
    return f"{lane}:{entry}"


def _parse(half: ContainerHalf, names: bytes) -> ContainerStatus | None:
    """The status in a copy of the half; None if user code wrote into it."""
    steps = half.serial - half.base
    done = steps if half.flags & EACH else 0  # of the entries
    running = half.flags // ONE_RUNS
    held = [_entry(name) for name in names.split()[half.first + done : half.end]]
    if half.state >= len(STATES) or running > len(held) or None in held:
        return None
    return ContainerStatus(
        state=STATES[half.state],
        connection=half.connection,
        serial=half.serial,
        started=half.started,
        timeout=half.timeout,
        tick=half.tick,
        completed=half.completed + done,
        waiting=bool(half.flags & WAITING),
        ahead=bool(half.flags & AHEAD),
        running=running,
        part=half.part + steps - done,
        held=tuple([entry for entry in held if entry]),
    )


def _parse_many(half: ContainerHalf, inputs: list[RunningInput]) -> ContainerStatus | None:
    """The status of a container that runs several inputs at once."""
    if half.state >= len(STATES):
        return None
    first = inputs[0] if inputs and inputs[0].started else None
    return ContainerStatus(
        state=STATES[half.state],
        connection=half.connection,
        serial=0 if first is None else first.serial,
        started=half.started if first is None else first.started,
        timeout=half.timeout,
        tick=half.tick,
        completed=half.completed,
        waiting=bool(half.flags & WAITING),
        running=len(inputs),
        held=tuple([(each.lane, each.entry) for each in inputs]),
        inputs=tuple(inputs),
    )


def _entry(name: bytes) -> Entry | None:
    """The entry of that name; None for what the server would not take as one."""
    found = _NAME.fullmatch(name)
    if found is None or max(map(int, found.groups())) >= 1 << 64:
        return None
    lane, entry = name.decode().split(":")
    return int(lane), entry

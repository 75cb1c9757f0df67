"""A container's shared memory: what it runs and what its worker wants, read without a system call.

The container writes its half as a seqlock (odd while it writes); the worker reads it as a hint
and never kills, releases or charges on one reading. The other half is the worker's: whether to
stop claiming, which input to interrupt, how many cancelled inputs it has heard of, until when
its lease is good, and whether other pools wait for its place.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qmodal_workers.ipc import output_words, running_table, tally
from qmodal_workers.ipc.entry_names import Entry, entry_of, name_of
from qmodal_workers.ipc.output_words import OutputWords
from qmodal_workers.ipc.running_table import RunningInput, RunningTable
from qmodal_workers.ipc.tally import Tally

_RECORD_SIZE = 16384
SIZE = _RECORD_SIZE + running_table.SIZE
MOST_HELD = 256
State = Literal["starting", "idle", "busy", "stopped"]
STATES: tuple[State, ...] = ("starting", "idle", "busy", "stopped")
# Why the worker interrupts an input; the container raises InputTimeout or InputCancellation.
# STOPPED: it has no outcome, and is given back.
TIMEOUT, CANCELLED, STOPPED = 1, 2, 3
# A container that drains claims nothing more (1); a REPLACED one starts nothing that it has claimed, either.
REPLACED = 2

# The names of the held entries follow the container's half as text, with room for the longest ones.
_NAMES_AT, _MOST_BYTES = 128, MOST_HELD * 48
_AGENT_AT = 16320
_OUTPUT_AT = 16128
# On the page of the worker's half, so that it takes no memory of its own.
_TALLY_AT = _NAMES_AT + _MOST_BYTES
# What is left of the lease before the worker has written one: a day, in nanoseconds.
_UNSAID_NS = 24 * 3600 * 10**9
# Flags of the container's half; above them the number of started entries, in units of ONE_STARTED.
# SERIAL_IS_ENTRY: each serial after that of the last publication is the next entry; without the flag it
# is another input of the same pack.
HAS_PREFETCH, SERIAL_IS_ENTRY, ONE_STARTED = 1, 2, 4
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_clock() -> int:
    """Nanoseconds of a clock that goes on while the machine sleeps, as the server's does."""
    return time.clock_gettime_ns(_CLOCK)


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """The container's half of the record, as its worker reads it.

    `serial` is the number, from 1 on, of the input whose user code runs; 0: none does. `started` and
    `tick` are monotonic nanoseconds. `connection` is the server's id of the claiming connection.
    `held` are the claimed entries (lane, id); the first `running` of them are started, and count as such
    until their outcome is stored, so `serial` may be 0 meanwhile. `part`: of a pack, the index in its
    call of the input that runs. `ahead`: there is a prefetch, whose entries are not in `held`.

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
    ahead: bool = False
    running: int = 0
    part: int = 0
    held: tuple[Entry, ...] = ()
    inputs: tuple[RunningInput, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """The worker's orders: `target` is the serial of the input to interrupt, `why` one of the codes."""

    draining: int = 0
    target: int = 0
    why: int = 0


class ContainerHalf(ctypes.Structure):
    """The layout of the container's half: words of eight bytes, each of which is written atomically.

    `sequence` is odd while the container writes. `base` is the serial of the last publication; then the
    entries with the names `first` to `end` were held. `tick` is written by the release thread, outside the
    sequence. `cut_off` is set by its lease guard, which then kills it.
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
    cut_off: int


class AgentHalf(ctypes.Structure):
    """The layout of the worker's half; `lease` is when its lease ends by `lease_clock`, 0 while unknown.

    `wanted`: 0 while nobody waits for the container's place, else 1 more than the nanoseconds for which it may be
    idle before it gives way.
    """

    draining: int
    why: int
    target: int
    lease: int
    cancels: int  # how many cancelled inputs it has heard of
    news: int  # how often it has written `target` or `cancels`
    wanted: int


for _half in (ContainerHalf, AgentHalf):
    _half._fields_ = [(name, ctypes.c_uint64) for name in _half.__annotations__]
assert ctypes.sizeof(ContainerHalf) <= _NAMES_AT
assert _TALLY_AT + tally.SIZE <= _OUTPUT_AT
assert _OUTPUT_AT + output_words.SIZE <= _AGENT_AT <= _RECORD_SIZE - ctypes.sizeof(AgentHalf)


class SharedRecord:
    """One container's shared memory: its two halves, and methods of the container and of the worker.

    Between two publications the container writes `container.started` and then `container.serial` only;
    `read` reads them in the opposite order, so that no input looks older than it is.
    `heard`: the container's copy of `cancels` from when it last asked the server what it holds.
    `connection` and `timeout` are written with the next publication.
    Each `…_cell` is the word of the field of that name; to read or write its `value` takes two thirds of
    the time, which counts for each input of a pack.
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
        "output",
        "serial_cell",
        "started_cell",
        "table",
        "tally",
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
        self.output = OutputWords(memoryview(self._map)[_OUTPUT_AT:_AGENT_AT])
        self.tally = Tally(memoryview(self._map)[_TALLY_AT : _TALLY_AT + tally.SIZE].cast("Q"))
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
        """The container: publish this status as its whole half."""
        self.connection, self.timeout = doing.connection, doing.timeout
        self.hold([name_of(*entry) for entry in doing.held])
        half = self.begin(STATES.index(doing.state), doing.serial, doing.started)
        half.completed = doing.completed
        half.flags = ONE_STARTED * doing.running | HAS_PREFETCH * doing.ahead
        half.first = 0
        half.end = min(len(doing.held), MOST_HELD)
        half.part = doing.part
        self.publish()

    def hold(self, names: Sequence[str]) -> None:
        """The container: set the names of its held entries, in order; written by the next `begin`."""
        self._fresh = names[:MOST_HELD]

    def begin(self, state: int, serial: int, started: int) -> ContainerHalf:
        """The container: begin a publication; returns the half, to set the fields that are left.

        Set `completed`, `flags`, `first`, `end` and `part`, then call `publish`. Nothing in between may
        raise, because the worker can read nothing until then. Names are written only if `hold` set new
        ones.
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
        half.connection, half.timeout = self.connection, self.timeout
        return half

    def publish(self) -> None:
        """The container: end the publication; what was written since `begin` may be read."""
        self._sequence += 2
        self.container.sequence = self._sequence

    def tick(self, moment: int) -> None:
        """The release thread: it ran at that moment (monotonic ns). The only word that it writes."""
        self.container.tick = moment

    def note_cut_off(self) -> None:
        """The container's lease guard: the container ends, because its worker is cut off from the server."""
        self.container.cut_off = 1

    @property
    def was_cut_off(self) -> bool:
        """The worker: whether the container's guard has ended it."""
        return self.container.cut_off != 0

    def read(self) -> ContainerStatus | None:
        """The worker: a consistent reading; None if the container wrote in each try, or it is damaged."""
        half = self.container
        for _ in range(5):
            before = half.sequence
            copy = ContainerHalf.from_buffer_copy(self._map)
            names = self._map[_NAMES_AT : _NAMES_AT + min(copy.length, _MOST_BYTES)]
            copy.serial, copy.started = half.serial, half.started
            if before == half.sequence and before % 2 == 0:
                if copy.rows:
                    return _parse_many(copy, self.table.running(copy.rows))
                return _parse(copy, names)
        return None

    def age(self, now: int) -> int:
        """The worker: for how many nanoseconds an input has run, from two words only; 0 if none runs."""
        half = self.container
        return max(0, now - half.started) if half.serial else 0

    @property
    def side_by_side_limit(self) -> int:
        """The worker: the timeout in nanoseconds, if the container runs several inputs at once; else 0."""
        half = self.container
        return half.timeout if half.rows else 0

    def tell(self, told: AgentCommand) -> None:
        """The worker: write its orders; `why` before `target`, because the container acts on `target`."""
        half = self.agent
        half.draining, half.why = told.draining, told.why
        half.target = told.target
        half.news += 1

    def told(self) -> AgentCommand:
        """The container: the worker's orders."""
        return AgentCommand(self.agent.draining, self.agent.target, self.agent.why)

    def cancelled(self) -> None:
        """The worker: count one more cancelled input among those that the container has claimed."""
        self.agent.cancels += 1
        self.agent.news += 1

    @property
    def cancels(self) -> int:
        """The container: how many cancelled inputs its worker has counted."""
        return self.agent.cancels

    def hold_until(self, moment: int) -> None:
        """The worker: write that its lease is good until that moment of `lease_clock`."""
        self.agent.lease = moment

    @property
    def held_until(self) -> int:
        """The container: the moment of `lease_clock` until which the lease is good; 0 while unknown."""
        return self.agent.lease

    @property
    def lease_left(self) -> int:
        """The container: nanoseconds that are left of the lease; from 0 on others may take its inputs."""
        until = self.agent.lease
        # `lease_clock`, without a call: each claim asks.
        return until - time.clock_gettime_ns(_CLOCK) if until else _UNSAID_NS

    @property
    def is_draining(self) -> bool:
        """The container: whether the worker wants no further claims; cheap enough to ask between inputs."""
        return self.agent.draining != 0

    @property
    def is_replaced(self) -> bool:
        """The container: whether a newer version is about to answer; as cheap."""
        return self.agent.draining == REPLACED

    def want_place(self, after: int | None) -> None:
        """The worker: write that others wait for its place, once it was idle for `after` ns; None: nobody waits."""
        self.agent.wanted = 0 if after is None else after + 1

    @property
    def idle_limit(self) -> int | None:
        """The container: after how many idle nanoseconds it should give way to others; None: it may stay."""
        wanted = self.agent.wanted
        return wanted - 1 if wanted else None

    def close(self) -> None:
        """Close the descriptor; the memory is unmapped when nothing refers to it, such as `output` may."""
        del self.container, self.agent, self.output, self.news_cell
        del self.serial_cell, self.started_cell, self.target_cell, self.cancels_cell
        self.table.close()
        self.tally.close()
        with suppress(BufferError):
            self._map.close()
        os.close(self.fd)


def _offset(half: type[ctypes.Structure], field: str) -> int:
    found: int = getattr(half, field).offset
    return found


def _parse(half: ContainerHalf, names: bytes) -> ContainerStatus | None:
    """The status in a copy of the half; None if it is damaged, which only user code does."""
    steps = half.serial - half.base
    done = steps if half.flags & SERIAL_IS_ENTRY else 0  # entries that ended since
    running = half.flags // ONE_STARTED
    held = [entry_of(name) for name in names.split()[half.first + done : half.end]]
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
        ahead=bool(half.flags & HAS_PREFETCH),
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
        running=len(inputs),
        held=tuple([(each.lane, each.entry) for each in inputs]),
        inputs=tuple(inputs),
    )

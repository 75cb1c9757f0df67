"""The shared-memory record of a container: what it is doing, readable without a system call.

The container writes its half as a seqlock (odd while it writes); the worker reads it as a hint
and never kills, releases or charges on one reading. The other half is the worker's: whether to
stop claiming, which input to interrupt, how often it heard of a cancelled one, and until when its
lease is good.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SIZE = 16384
MOST_HELD = 256
State = Literal["starting", "idle", "busy", "stopped"]
STATES: tuple[State, ...] = ("starting", "idle", "busy", "stopped")
# Why the worker interrupts an input; the container raises InputTimeout or InputCancellation.
# STOPPED: it has no outcome, and is given back.
TIMEOUT, CANCELLED, STOPPED = 1, 2, 3

# The container's half, in words of eight bytes; a word is written at once.
_SEQUENCE, _STATE, _CONNECTION, SERIAL, STARTED = range(5)
_TIMEOUT, _COMPLETED, _FLAGS, _END, _FIRST, _PART, _BASE, _LENGTH, _TICK = range(5, 14)
# Then the names of what is held, as text: room for the longest ones.
_HELD_AT, _MOST_BYTES = 128, MOST_HELD * 48
_DRAINING, TARGET, _WHY, _LEASE, CANCELS = range(2040, 2045)
# Before a worker has said how long its lease is good: a day.
_UNSAID_NS = 24 * 3600 * 10**9
Entry = tuple[int, str]  # lane, id
# Flags: bit by bit, and from ONE_RUNS on how many entries are started. EACH: the serials after that of
# the last post are the entries that follow; else they are inputs of the same one.
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
    pack the input `part` of its call runs. `ahead`: more was claimed than is listed.
    `waiting`: it is blocked in another call's `.get()`.
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


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """The worker's half: `target` is the serial of the input to interrupt, `why` one of the codes."""

    draining: bool = False
    target: int = 0
    why: int = 0


class SharedRecord:
    """One container's shared memory.

    Between two posts the container only writes `words[STARTED]` and then `words[SERIAL]`: whoever
    reads them the other way round takes no input for older than it is.
    `heard`: the container asked the server for what it has claimed when its worker had heard of so
    many cancelled inputs.
    """

    __slots__ = ("_fresh", "_map", "_sequence", "connection", "fd", "heard", "timeout", "words")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.connection = 0
        self.timeout = 0
        self.heard = 0
        self._fresh: Sequence[str] | None = None
        self._map = mmap.mmap(fd, SIZE)
        self.words = memoryview(self._map).cast("Q")
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

    def write(self, doing: ContainerStatus) -> None:
        """The container: publish the whole half."""
        self.connection, self.timeout = doing.connection, doing.timeout
        self.hold([name_of(*entry) for entry in doing.held])
        self.post(
            STATES.index(doing.state),
            doing.serial,
            doing.started,
            doing.completed,
            ONE_RUNS * doing.running | AHEAD * doing.ahead | WAITING * doing.waiting,
            0,
            len(self._fresh or ()),
            doing.part,
        )

    def hold(self, names: Sequence[str]) -> None:
        """The container: what it has claimed, in order; published with what is posted next."""
        self._fresh = names[:MOST_HELD]

    def post(
        self,
        state: int,
        serial: int,
        started: int,
        completed: int,
        flags: int,
        first: int,
        end: int,
        part: int = 0,
    ) -> None:
        """The container: publish all but the claimed entries, of which `first` to `end` are held.

        Once an input; so plain numbers, and no entry is written twice.
        """
        words, fresh = self.words, self._fresh
        self._sequence = sequence = self._sequence + 2
        words[_SEQUENCE] = sequence - 1
        if fresh is not None:
            text = " ".join(fresh).encode()
            self._map[_HELD_AT : _HELD_AT + len(text)] = text
            words[_LENGTH] = len(text)
            self._fresh = None
        words[_STATE] = state
        words[_CONNECTION] = self.connection
        words[SERIAL] = serial
        words[STARTED] = started
        words[_TIMEOUT] = self.timeout
        words[_COMPLETED] = completed
        words[_FLAGS] = flags
        words[_END] = end
        words[_FIRST] = first
        words[_PART] = part
        words[_BASE] = serial
        words[_SEQUENCE] = sequence

    def tick(self, moment: int) -> None:
        """The release thread: it ran at that moment; apart from the rest, which is another's."""
        self.words[_TICK] = moment

    def read(self) -> ContainerStatus | None:
        """The worker: a consistent reading, or None if the container was always writing."""
        words = self.words
        for _ in range(5):
            before = words[_SEQUENCE]
            copy = self._map[: _HELD_AT + min(words[_LENGTH], _MOST_BYTES)]
            serial, started = words[SERIAL], words[STARTED]
            if before == words[_SEQUENCE] and before % 2 == 0:
                return _parse(copy, serial, started)
        return None

    def age(self, now: int) -> int:
        """The worker: for how many nanoseconds an input runs, at a glance; 0 if none does."""
        return max(0, now - self.words[STARTED]) if self.words[SERIAL] else 0

    def tell(self, told: AgentCommand) -> None:
        """The worker: publish its half; `why` before `target`, which is what is acted on."""
        words = self.words
        words[_DRAINING] = told.draining
        words[_WHY] = told.why
        words[TARGET] = told.target

    def told(self) -> AgentCommand:
        """The container: what the worker wants."""
        words = self.words
        return AgentCommand(bool(words[_DRAINING]), words[TARGET], words[_WHY])

    def cancelled(self) -> None:
        """The worker: it has heard that one of the claimed inputs was cancelled."""
        self.words[CANCELS] += 1

    @property
    def cancels(self) -> int:
        """The container: how many of them its worker has heard of."""
        return self.words[CANCELS]

    def hold_until(self, moment: int) -> None:
        """The worker: nobody else takes its inputs before that moment of `lease_clock`."""
        self.words[_LEASE] = moment

    @property
    def held_until(self) -> int:
        """The container: that moment; 0 before the worker has said one."""
        return self.words[_LEASE]

    @property
    def lease_left(self) -> int:
        """The container: nanoseconds for which nobody else takes its inputs; none left: perhaps."""
        until = self.words[_LEASE]
        return until - lease_clock() if until else _UNSAID_NS

    @property
    def is_draining(self) -> bool:
        """Whether the worker wants no further claims; cheap enough to ask between inputs."""
        return self.words[_DRAINING] != 0

    def close(self) -> None:
        """Unmap and close."""
        self.words.release()
        self._map.close()
        os.close(self.fd)


def name_of(lane: int, entry: str) -> str:
    """How a claimed entry stands in a record."""
    return f"{lane}:{entry}"


def _parse(copy: bytes, serial: int, started: int) -> ContainerStatus | None:
    words = memoryview(copy[:_HELD_AT]).cast("Q")
    state, flags, steps = words[_STATE], words[_FLAGS], serial - words[_BASE]
    done = steps if flags & EACH else 0  # of the entries
    first, end, running = words[_FIRST] + done, words[_END], flags // ONE_RUNS
    held = [_entry(name) for name in copy[_HELD_AT:].split()[first:end]]
    if state >= len(STATES) or running > len(held) or None in held:
        return None  # user code wrote into it
    return ContainerStatus(
        state=STATES[state],
        connection=words[_CONNECTION],
        serial=serial,
        started=started,
        timeout=words[_TIMEOUT],
        tick=words[_TICK],
        completed=words[_COMPLETED] + done,
        waiting=bool(flags & WAITING),
        ahead=bool(flags & AHEAD),
        running=running,
        part=words[_PART] + steps - done,
        held=tuple([entry for entry in held if entry]),
    )


def _entry(name: bytes) -> Entry | None:
    """The entry of that name; None for what the server would not take as one."""
    found = _NAME.fullmatch(name)
    if found is None or max(map(int, found.groups())) >= 1 << 64:
        return None
    lane, entry = name.decode().split(":")
    return int(lane), entry

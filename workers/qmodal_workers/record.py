"""The shared-memory record of a container: what it is doing, readable without a system call.

The container writes its half as a seqlock (odd while it writes); the worker reads it as a hint
and never kills, releases or charges on one reading. The other half is the worker's: whether to
stop claiming, which input to interrupt, and until when its lease is good.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SIZE = 8192
MOST_HELD = 256
State = Literal["starting", "idle", "busy", "stopped"]
STATES: tuple[State, ...] = ("starting", "idle", "busy", "stopped")
# Why the worker interrupts an input; the container raises InputTimeout or InputCancellation.
# STOPPED: it has no outcome, and is given back.
TIMEOUT, CANCELLED, STOPPED = 1, 2, 3

_SEQUENCE = struct.Struct("<Q")
_HEAD = struct.Struct("<8xQQQQQQQQ")  # behind the sequence
_ENTRY = struct.Struct("<BQQ")
_HELD_AT = 128
_TICK_AT = 6136
_WORKER_AT = 6144
_WORKER = struct.Struct("<QQQ")
_LEASE_AT = 6168
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_clock() -> int:
    """Nanoseconds that also pass while the machine sleeps, as they do for the server."""
    return time.clock_gettime_ns(_CLOCK)


@dataclass(frozen=True, slots=True)
class Doing:
    """The container's half.

    `serial` numbers the inputs that this container started (0: none runs now); `started` and
    `tick` are monotonic nanoseconds; `connection` is the client id of its claiming connection;
    `held` are the claimed entries (lane, milliseconds, sequence) with those started first, and
    `running` of them are started. `waiting`: it is blocked in another call's `.get()`.
    """

    state: State = "starting"
    connection: int = 0
    serial: int = 0
    started: int = 0
    timeout: int = 0  # nanoseconds; 0 = none
    tick: int = 0  # when the release thread last ran; 0 = it is not armed
    completed: int = 0
    waiting: bool = False
    running: int = 0
    held: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """The worker's half: `target` is the serial of the input to interrupt, `why` one of the codes."""

    draining: bool = False
    target: int = 0
    why: int = 0


class Record:
    """One container's shared memory."""

    __slots__ = ("_map", "_sequence", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, SIZE)
        self._sequence = 0

    @classmethod
    def create(cls) -> Record:
        """A fresh record; its descriptor is not inherited unless passed on."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("qmodal-record", os.MFD_CLOEXEC)
        else:
            fd, name = tempfile.mkstemp(prefix="qmodal-record-")
            Path(name).unlink()
        os.ftruncate(fd, SIZE)
        return cls(fd)

    def write(self, doing: Doing) -> None:
        """The container: publish the whole half."""
        held = doing.held[:MOST_HELD]
        body = _HEAD.pack(
            STATES.index(doing.state),
            doing.connection,
            doing.serial,
            doing.started,
            doing.timeout,
            doing.completed,
            doing.running << 1 | doing.waiting,
            len(held),
        )[8:]
        self._sequence += 2
        _SEQUENCE.pack_into(self._map, 0, self._sequence - 1)
        self._map[8 : 8 + len(body)] = body
        for n, entry in enumerate(held):
            _ENTRY.pack_into(self._map, _HELD_AT + n * _ENTRY.size, *entry)
        _SEQUENCE.pack_into(self._map, 0, self._sequence)

    def tick(self, moment: int) -> None:
        """The release thread: it ran at that moment; apart from the rest, which is another's."""
        _SEQUENCE.pack_into(self._map, _TICK_AT, moment)

    def read(self) -> Doing | None:
        """The worker: a consistent reading, or None if the container was always writing."""
        for _ in range(5):
            (before,) = _SEQUENCE.unpack_from(self._map, 0)
            copy = self._map[:_WORKER_AT]
            (after,) = _SEQUENCE.unpack_from(self._map, 0)
            if before == after and before % 2 == 0:
                return _parse(copy)
        return None

    def tell(self, told: Told) -> None:
        """The worker: publish its half; `why` before `target`, which is what is acted on."""
        _WORKER.pack_into(self._map, _WORKER_AT, told.draining, told.target, told.why)

    def told(self) -> Told:
        """The container: what the worker wants."""
        draining, target, why = _WORKER.unpack_from(self._map, _WORKER_AT)
        return Told(bool(draining), target, why)

    def hold_until(self, moment: int) -> None:
        """The worker: nobody else takes its inputs before that moment of `lease_clock`."""
        _SEQUENCE.pack_into(self._map, _LEASE_AT, moment)

    @property
    def held_until(self) -> int:
        """The container: that moment; 0 before the worker has said one."""
        moment: int = _SEQUENCE.unpack_from(self._map, _LEASE_AT)[0]
        return moment

    @property
    def is_draining(self) -> bool:
        """Whether the worker wants no further claims; cheap enough to ask between inputs."""
        return self._map[_WORKER_AT] != 0

    def close(self) -> None:
        """Unmap and close."""
        self._map.close()
        os.close(self.fd)


def _parse(copy: bytes) -> Doing | None:
    state, connection, serial, started, timeout, completed, running, count = _HEAD.unpack_from(
        copy, 0
    )
    held = tuple(
        _ENTRY.unpack_from(copy, _HELD_AT + n * _ENTRY.size) for n in range(min(count, MOST_HELD))
    )
    if state >= len(STATES) or count > MOST_HELD:
        return None  # user code wrote into it
    return Doing(
        state=STATES[state],
        connection=connection,
        serial=serial,
        started=started,
        timeout=timeout,
        tick=_SEQUENCE.unpack_from(copy, _TICK_AT)[0],
        completed=completed,
        waiting=bool(running & 1),
        running=running >> 1,
        held=held,
    )

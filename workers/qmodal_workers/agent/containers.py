"""The containers of a worker, and which of their reports are still to be sent."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qmodal.spec.options import FunctionOptions
from qmodal.store.fleet import ContainerReport
from qmodal.store.history.statistics import Series
from qmodal.wire.ids import worker_of
from qmodal_workers.ipc.endpoints import Endpoints
from qmodal_workers.ipc.shared_record import AgentCommand, ContainerStatus


@dataclass(frozen=True, slots=True)
class Termination:
    """The worker's reason for killing a container itself; what it held is given back uncharged.

    `overran`: its status for each input that exceeded the timeout; these are settled first.
    """

    reason: str
    overran: tuple[ContainerStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class PendingInterrupt:
    """An input that was interrupted and has not ended yet; `since` in monotonic seconds."""

    serial: int
    why: int
    since: float


@dataclass(slots=True, frozen=True)
class Cancellation:
    """A cancellation that was heard before its input started; `since` in monotonic seconds."""

    since: float
    takes_container: bool


@dataclass(slots=True, eq=False, kw_only=True)
class Container:
    """One container; `report` is what the server is sent.

    `assigned_at`: when its start began, `limited_from`: when its user code began, or will have begun for
    certain (0: there is no process yet), both in monotonic seconds.
    """

    report: ContainerReport
    mark: int = 0  # on every process that its user code starts
    assigned_at: float = field(default_factory=time.monotonic)
    limited_from: float = 0.0
    preparing: float = 0.0  # seconds from its process to being ready: its imports and enter hooks
    prepared_cpu: float = 0.0  # seconds of a processor that this took
    options: FunctionOptions = field(default_factory=FunctionOptions)
    expected_memory: int = (
        0  # bytes that others of its pool take, or its function asks for; 0: nobody knows
    )
    inherited_memory: int = 0  # bytes that it shared with its template when it began
    memory_limit: int = 0  # bytes; 0: it has none
    cpu_limit: float = 0.0
    processors: tuple[int, ...] = ()  # the only ones that it may use, if it is limited to some
    has_group: bool = False  # a control group of its own
    over_memory: str = ""  # how it has exceeded its memory limit, for which it was ended
    series: Series | None = None  # under which it is counted, once that is known
    code: Path | None = None  # where its app's files lie
    endpoints: Endpoints | None = None
    starting: asyncio.Task[None] | None = None
    process: subprocess.Popen[bytes] | None = None
    command: AgentCommand = field(default_factory=AgentCommand)
    termination: Termination | None = None
    exit_status: int = 0  # as subprocess says it, once its process has ended
    pending_interrupt: PendingInterrupt | None = None
    # Of one that runs several inputs at once: by row and serial.
    interrupts: dict[tuple[int, int], PendingInterrupt] = field(default_factory=dict)
    last_input: float = 0.0  # when it was last seen busy, while draining
    idle_since: float = 0.0  # when it was seen idle while others wait for its place; 0: it was not
    cancelled: dict[str, Cancellation] = field(default_factory=dict)  # by entry
    suspect: int = 0  # serial of the input behind which entries were seen to wait, once
    released: int = 0  # serial of the input behind which entries were released
    stop_reason: str = ""
    is_unfit: bool = False  # it stopped for an input that needs a box with another Python
    stopping: str = ""  # why it should leave at once, without finishing its input
    failure: str = ""

    @property
    def id(self) -> str:
        """Its id, which is its consumer name."""
        return self.report.container

    @property
    def pool(self) -> str:
        """The pool that it serves."""
        return self.report.pool

    @property
    def about(self) -> dict[str, str]:
        """The ids that events have of it."""
        report = self.report
        return {
            "container": report.container,
            "worker": worker_of(report.container),
            "app": report.app,
            "function": report.function,
            "pool": report.pool,
        }

    @property
    def pid(self) -> int:
        """Its process; 0 before it exists."""
        return self.report.pid

    @property
    def is_over(self) -> bool:
        """Whether its report says that it ended or failed."""
        return self.report.is_over

    def status(self) -> ContainerStatus | None:
        """The status in its shared record; None if that cannot be read."""
        return None if self.endpoints is None else self.endpoints.record.read()

    def is_calm(self, now: int, limit: int) -> bool:
        """Whether no input has run for `limit` nanoseconds and none is to be interrupted; costs one read.

        Of several at once nothing has to be known before the first is out of time: there may be many.
        """
        if self.endpoints is None or self.pending_interrupt is not None:
            return False
        if self.cancelled or self.interrupts:
            return False
        record = self.endpoints.record
        return record.age(now) < (record.side_by_side_limit or limit)

    def idle_for(self, now: float) -> float:
        """Seconds since it was first seen idle while others wait for its place; 0 if it was not."""
        return now - self.idle_since if self.idle_since else 0.0

    def tell(self, **changes: Any) -> None:
        """Change the command in its shared record."""
        self.command = replace(self.command, **changes)
        if self.endpoints is not None:
            self.endpoints.record.tell(self.command)


class ContainerTable:
    """All containers of one worker; `changed` is set when a report differs from the last sent.

    `safe_until`: the moment of `lease_clock` before which nobody else can take their inputs.
    """

    def __init__(self) -> None:
        self.safe_until = 0
        self._containers: dict[str, Container] = {}
        self._unsent: dict[str, ContainerReport | None] = {}
        self.changed = asyncio.Event()
        # A container has become ready, leaves or is over: there may be room for the next one.
        self.moved = asyncio.Event()

    def __contains__(self, container: str) -> bool:
        return container in self._containers

    def __iter__(self) -> Iterator[Container]:
        return iter(tuple(self._containers.values()))

    def find(self, container: str) -> Container | None:
        """The container of that id."""
        return self._containers.get(container)

    def living(self) -> list[Container]:
        """The containers that are not over."""
        return [container for container in self if not container.is_over]

    def running(self) -> list[Container]:
        """The containers that have a process."""
        return [container for container in self.living() if container.pid]

    def add(self, container: Container, *, is_news: bool = True) -> None:
        """Add a new container, which is reported; later, with its first change, if it is no news yet."""
        self._containers[container.id] = container
        if is_news:
            self.note(container)

    def note(self, container: Container, **changes: Any) -> None:
        """Change the container's report, to be sent; a new state begins now."""
        if changes.get("state", container.report.state) != container.report.state:
            changes["since"] = time.time_ns() // 1_000_000
        container.report = replace(container.report, **changes)
        self._unsent[container.id] = container.report
        if "state" in changes or "leaving" in changes:
            self.moved.set()
        self.changed.set()

    def forget(self, container: Container) -> None:
        """Remove a container that is not assigned any more."""
        if self._containers.pop(container.id, None) is not None:
            self._unsent[container.id] = None
            self.changed.set()

    def take_unsent(self) -> dict[str, ContainerReport | None]:
        """The reports that differ from the last sent; give them to `put_back` if they stay so."""
        unsent, self._unsent = self._unsent, {}
        self.changed.clear()
        return unsent

    def put_back(self, unsent: dict[str, ContainerReport | None]) -> None:
        """Take back reports that could not be sent; newer ones stay."""
        self._unsent = unsent | self._unsent

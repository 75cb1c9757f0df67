"""What to interrupt, and whom to end, in a container that runs several inputs at once; decisions only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from qmodal_workers.agent.containers import PendingInterrupt
from qmodal_workers.ipc.running_table import RunningInput
from qmodal_workers.ipc.shared_record import TIMEOUT, ContainerStatus

# The interrupts of a container, by row and serial.
Interrupts = Mapping[tuple[int, int], PendingInterrupt]


def running(status: ContainerStatus) -> list[RunningInput]:
    """The inputs whose user code runs, longest first."""
    return [each for each in status.inputs if each.started]


def fresh(status: ContainerStatus, interrupts: Interrupts) -> list[RunningInput]:
    """What runs and was not interrupted yet."""
    return [each for each in running(status) if (each.row, each.serial) not in interrupts]


def find(status: ContainerStatus, entry: str) -> RunningInput | None:
    """The running input of that entry."""
    return next((each for each in running(status) if each.entry == entry), None)


def overdue(status: ContainerStatus, interrupts: Interrupts, now: int) -> list[RunningInput]:
    """What runs longer than its timeout and was not interrupted yet; `now` in monotonic nanoseconds."""
    if status.timeout <= 0:
        return []
    return [each for each in fresh(status, interrupts) if status.timeout < now - each.started]


def still_pending(
    status: ContainerStatus, interrupts: Interrupts
) -> dict[tuple[int, int], PendingInterrupt]:
    """The interrupts of what runs on."""
    alive = {(each.row, each.serial) for each in running(status)}
    return {key: pending for key, pending in interrupts.items() if key in alive}


def resisting(status: ContainerStatus, interrupts: Interrupts, since: float) -> list[RunningInput]:
    """What runs on although it was interrupted before that moment, in monotonic seconds.

    Of a batch only all inputs together: it goes on for the others when some are cancelled.
    """
    alive = running(status)
    resists = {
        (each.row, each.serial)
        for each in alive
        if (pending := interrupts.get((each.row, each.serial))) is not None
        and pending.since < since
    }
    spared = {each.serial for each in alive if (each.row, each.serial) not in resists}
    return [
        each for each in alive if (each.row, each.serial) in resists and each.serial not in spared
    ]


def overrun(
    status: ContainerStatus, interrupts: Interrupts, inputs: Iterable[RunningInput]
) -> tuple[ContainerStatus, ...]:
    """Of these inputs those that ran out of time, each as the status of a container that runs nothing else."""
    return tuple(
        replace(
            status,
            serial=each.serial,
            started=each.started,
            running=1,
            held=((each.lane, each.entry),),
            inputs=(),
        )
        for each in inputs
        if interrupts[each.row, each.serial].why == TIMEOUT
    )

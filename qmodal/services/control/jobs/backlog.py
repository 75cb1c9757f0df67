"""How many jobs wait and have failed, as the keys of rq say it; without importing rq, which takes half a second."""

from __future__ import annotations

from typing import NamedTuple

from qmodal.store.keys import Keys
from qmodal.transport.operation import Op, ask_each

QUEUES = ("schedules", "chores")


class Backlog(NamedTuple):
    """Jobs of one queue."""

    waiting: int
    failed: int


def backlogs(keys: Keys) -> Op[dict[str, Backlog]]:
    """The jobs of each queue."""
    commands = []
    for queue in QUEUES:
        commands += [(b"LLEN", f"{keys.rq}:queue:{queue}"), (b"ZCARD", f"{keys.rq}:failed:{queue}")]
    replies = yield from ask_each(commands)
    counts = [reply if isinstance(reply, int) else 0 for reply in replies]
    return {queue: Backlog(*counts[2 * n : 2 * n + 2]) for n, queue in enumerate(QUEUES)}


def processes(keys: Keys) -> Op[list[str]]:
    """Names of the control processes, as far as rq knows workers of theirs."""
    (members,) = yield from ask_each([(b"SMEMBERS", f"{keys.rq}:workers")])
    names = set()
    for each in members if isinstance(members, list | set) else ():
        # `<start>:worker:<process>.<queue>.<number>`
        names.add(each.decode(errors="replace").rpartition(":")[2].partition(".")[0])
    return sorted(name for name in names if name.startswith("ct-"))

"""Successions: when containers of a new version begin to claim from a pool, those of older ones start nothing more."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmodal.store import reading
from qmodal.store.calls import wait_for_answers
from qmodal.store.keys import GROUP, Keys
from qmodal.store.watch.observing import note_command
from qmodal.transport.operation import Command, Op, ask_each, ask_one
from qmodal.transport.script import script
from qmodal.wire.ids import worker_of

# A worker that hears of a succession answers once its older containers run nothing, after so long at most.
QUIET_SECONDS = 1.0
# Who succeeds waits for these answers, and no longer.
ANSWER_SECONDS = 1.5
OLD = b"OLD"


@dataclass(frozen=True, slots=True)
class Successions:
    """Operations of containers whose version may have replaced others."""

    keys: Keys

    def command(self, pool: str, number: int, container: str) -> Command:
        """Note that this container of version `number` is about to claim; `parse` reads the reply.

        It has to follow a read of what the container holds, which makes it known to whoever comes next.
        """
        return script("succeed").command(self.keys.of_pool(pool)[:3], (GROUP, number, container))

    @staticmethod
    def parse(reply: Any) -> list[str] | None:
        """Containers that may be of older versions and start inputs; None if a newer version has replaced ours."""
        return None if reply == OLD else [reading.name(each) for each in reply]

    def complete(self, pool: str, number: int, others: Sequence[str]) -> Op[None]:
        """Return when no older container among the others starts anything any more, and what is short has ended.

        What runs for longer than a second goes on; a box that does not answer is not waited for.
        """
        token = secrets.token_hex(8)
        message = f"replaced {pool} {number} {token}"
        # A foreign reader's name may be any bytes.
        workers = sorted({worker_of(each) for each in others if each.isascii()})
        reached = yield from ask_each(
            (b"PUBLISH", self.keys.nudge(each), message) for each in workers
        )
        yield from wait_for_answers(
            self.keys.told(token), sum(map(bool, reached)), seconds=ANSWER_SECONDS
        )
        yield from ask_one(*note_command(self.keys, pool, b"replaced", number))

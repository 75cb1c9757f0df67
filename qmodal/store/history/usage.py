"""Usage: what the statistics of a function were at the beginning of each day, so that days can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qmodal.store import reading
from qmodal.store.history.statistics import OUTCOMES, Series, sum_of
from qmodal.store.keys import Keys
from qmodal.transport.operation import Op, ask_each

DAY_MS = 24 * 3600 * 1000
MOST_DAYS = 92
RUN_TIME = sum_of("run")
# What is kept of a day.
USAGE_FIELDS = (*OUTCOMES, RUN_TIME, "alive", "starts")


@dataclass(frozen=True, slots=True)
class Usage:
    """Operations on usage."""

    keys: Keys

    def note(self, day: int, counts: Mapping[Series, Mapping[str, int]]) -> Op[int]:
        """Keep what was counted up to that day's beginning (ms since 1970); how many functions had no note of it.

        A day is noted once: its entry's id follows from it, and the server takes no older ones.
        """
        commands = []
        for series, counted in counts.items():
            key = self.keys.usage(series.name)
            fields = [part for name in USAGE_FIELDS for part in (name, counted.get(name, 0))]
            commands.append((b"XADD", key, b"MAXLEN", MOST_DAYS, f"{day}-1", *fields))
            commands.append((b"PEXPIRE", key, MOST_DAYS * DAY_MS))
        replies = yield from ask_each(commands)
        return sum(not isinstance(reply, Exception) for reply in replies[::2])

    def since(self, day: int, wanted: Sequence[Series]) -> Op[dict[Series, dict[str, int]]]:
        """What was counted of these functions up to the first note from that day on (ms since 1970)."""
        names = [self.keys.usage(each.name) for each in wanted]
        replies = yield from ask_each((b"XRANGE", name, day, b"+", b"COUNT", 1) for name in names)
        found = {}
        for series, name, reply in zip(wanted, names, replies, strict=True):
            if reading.is_readable(reply, name) and reply:
                texts = reading.texts(reply[0][1] or [], name)
                found[series] = {
                    field: int(texts.get(field, "0")) if texts.get(field, "0").isdigit() else 0
                    for field in USAGE_FIELDS
                }
        return found

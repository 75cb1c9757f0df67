"""Leftovers: keys that have no lifetime although what they belong to is gone, as a loss of data may leave them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.operation import Command, Op, ask_each, ask_one
from qmodal.transport.script import script
from qmodal.wire.ids import is_call_id

# What has been found lives on for so long: somebody may be about to make what it belongs to.
KEEP_LEFT_MS = 3_600_000
NAMES_AT_ONCE = 1000


def expire_part_command(part: str, owner: str) -> Command:
    """Give a lifetime to the key if it has none, and the key that it belongs to is gone."""
    return script("expire_part").command((part, owner), (KEEP_LEFT_MS,))


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Operations on leftovers."""

    keys: Keys

    def of_calls(self, *, seconds: float) -> Op[int]:
        """Give a lifetime to outputs, payloads and other parts of calls that have no record; how many."""
        start = self.keys.calls(0).replace("{s00}", "{s??}")
        return self._expire(start + "fc-*:*", self._call_of, seconds)

    def of_fleet(self, *, seconds: float) -> Op[int]:
        """The same for parts of apps and boxes that have none."""
        apps = yield from self._expire(self.keys.app("*") + ":*", self._owner_of, seconds)
        boxes = yield from self._expire(self.keys.worker("*") + ":*", self._owner_of, seconds)
        return apps + boxes

    def pools(self, *, seconds: float) -> Op[list[str]]:
        """Ids of pools that have a stream, whether they are active or not; as many as are found in time."""
        pattern = self.keys.inputs("00" * 16).replace("{s00}", "{s??}").replace("00" * 16, "*")
        found: set[str] = set()
        for names in self._scan(pattern, seconds):
            found |= {name.split(":")[-2] for name in (yield from names)}
        return sorted(found)

    def arguments(self, *, seconds: float) -> Op[list[tuple[str, int]]]:
        """Apps and shards that keep arguments of their failed inputs."""
        pattern = self.keys.arguments(0, "*").replace("{s00}", "{s??}")
        found: set[tuple[str, int]] = set()
        for names in self._scan(pattern, seconds):
            for name in (yield from names):
                start, _, app = name.rpartition(":arguments:")
                shard = reading.whole(start[-3:-1].encode())  # of its tag, {s07}
                if shard is not None:
                    found.add((app, shard))
        return sorted(found)

    def code(self, *, seconds: float) -> Op[list[str]]:
        """Digests of bundles that have no lifetime."""
        found: list[str] = []
        for names in self._scan(self.keys.code("*"), seconds):
            listed = [name for name in (yield from names) if not name.endswith(":apps")]
            times = yield from ask_each((b"PTTL", name) for name in listed)
            found += [
                name.rpartition(":")[2]
                for name, left in zip(listed, times, strict=True)
                if left == -1
            ]
        return found

    def _expire(self, pattern: str, owner: Callable[[str], str | None], seconds: float) -> Op[int]:
        count = 0
        for names in self._scan(pattern, seconds):
            parts = [(name, owner(name)) for name in (yield from names)]
            owned = [(name, of) for name, of in parts if of is not None]
            times = yield from ask_each((b"PTTL", name) for name, _ in owned)
            lasting = [each for each, left in zip(owned, times, strict=True) if left == -1]
            replies = yield from ask_each(expire_part_command(*each) for each in lasting)
            count += sum(reply == 1 for reply in replies)
        return count

    def _scan(self, pattern: str, seconds: float) -> Iterator[Op[list[str]]]:
        """Operations that each find some names."""
        ends, cursor = time.monotonic() + seconds, [b"0"]
        while True:
            yield self._some(pattern, cursor)
            if cursor[0] == b"0" or time.monotonic() > ends:
                return

    @staticmethod
    def _some(pattern: str, cursor: list[bytes]) -> Op[list[str]]:
        scan = (b"SCAN", cursor[0], b"MATCH", pattern, b"COUNT", NAMES_AT_ONCE)
        cursor[0], names = yield from ask_one(*scan)
        return [name for raw in names if (name := reading.text(raw, pattern)) is not None]

    def _call_of(self, name: str) -> str | None:
        start, found, rest = name.partition(":call:")
        call, part, _ = rest.partition(":")
        return f"{start}{found}{call}" if part and is_call_id(call) else None

    def _owner_of(self, name: str) -> str | None:
        """The record of the app or box that a part belongs to; logs and versions have lifetimes of their own."""
        start = self.keys.fleet("")
        kind, own, *parts = name.removeprefix(start).split(":")
        return f"{start}{kind}:{own}" if parts else None

"""Queues: a list of signed items for each partition, and in the queue's record which partitions there are.

No two items are the same, and they are only appended and taken from the front. So whoever has read up to an item goes
on behind it, or from the front if it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import count
from secrets import randbits
from time import monotonic
from typing import NamedTuple

from qmodal.exception import ResourceExhaustedError
from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.store.objects.dicts import gone
from qmodal.store.objects.names import EPHEMERAL_MS
from qmodal.store.objects.sealed import ITEM_NUMBER_BYTES, item_place
from qmodal.store.objects.writers import REMEMBER_MS, Writer, Writers
from qmodal.transport.operation import Command, Exchange, Op, ask, ask_one
from qmodal.transport.prepacked import head
from qmodal.transport.script import script
from qmodal.wire.signing import PlaceSigner, Signer

MOST_PARTITIONS, MOST_ITEMS = 100_000, 5000
MOST_ITEM_BYTES, MOST_PARTITION_BYTES = 1024 * 1024, 64 * 1024 * 1024
PARTITIONS_AT_ONCE, PEEK_AT_ONCE = 1000, 100
# Whoever waits keeps its place in the line for so long; then it asks again, behind the others.
WAIT_SECONDS_AT_ONCE = 600.0
_GONE_MS = 10_000
_MOST_LATELY = 4096
_LIMITS = (MOST_ITEMS, MOST_PARTITION_BYTES, MOST_PARTITIONS)


class PutItems(NamedTuple):
    """Items for a partition, which lasts for `ttl` ms after them."""

    partition: str
    signed: Sequence[bytes]
    ttl: int


@lru_cache(maxsize=1024)  # asked for with each put and get, mostly for the same few partitions
def _of_partition(prefix: str, object_id: str, partition: str) -> tuple[str, str]:
    keys = Keys(prefix)  # as in `_of_dict`
    return keys.object(object_id), keys.items(object_id, partition)


class PartitionWriter(Writer):
    """A writer of small items to one partition, and how its command begins.

    The server counts its writes for twice REMEMBER_MS from the first one on; so it is used only `until` that moment of
    the monotonic clock, in seconds, that each write may be repeated for REMEMBER_MS.
    """

    __slots__ = ("_begin", "until")

    def __init__(self, command: Callable[[Writer], Command]) -> None:
        super().__init__()
        self._begin = head(*command(self)[:-2], more=2)
        self.until = monotonic() + 0.9 * REMEMBER_MS / 1000

    def packed(self, signed: bytes) -> bytes:
        """The command that appends an item; the reply is OK if it did, now or before, else nothing was written."""
        number = b"%d" % self.number
        parts = (self._begin, len(number), number, len(signed), signed)
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % parts


class KnownPartition(Writers):
    """A partition into which something was put: the next small item takes few steps. It has writers of its own."""

    __slots__ = ("_command", "_numbers", "_sign")

    def __init__(
        self, command: Callable[[Writer], Command], signer: PlaceSigner, numbers: Iterator[int]
    ) -> None:
        super().__init__()
        self._command = command
        self._numbers = numbers
        self._sign = signer.sign

    def sign(self, body: bytes) -> bytes:
        """An item's bytes, with a number of its own."""
        return self._sign(next(self._numbers).to_bytes(ITEM_NUMBER_BYTES, "big") + body)

    def take(self) -> PartitionWriter:
        """One for a single write; nobody else has it meanwhile."""
        try:
            found: PartitionWriter = self._idle.pop()  # type: ignore[assignment]
            if monotonic() < found.until:
                return found
        except IndexError:
            pass
        return PartitionWriter(self._command)


class TakeSteps(NamedTuple):
    """The commands whose replies say whether there is such a queue, and the item that was taken, if any; who opens it."""

    packed: bytes
    signer: PlaceSigner


@dataclass(frozen=True, slots=True)
class Queues:
    """Operations on queues; all of them raise NotFoundError for one that is gone."""

    keys: Keys
    signer: Signer
    writers: Writers = field(default_factory=Writers)
    # Partitions of queues that are not ephemeral into which something was put here of late, and how to take from
    # partitions; by the arguments of puts and gets, so that these need no other look at them: None is the unnamed one.
    lately: dict[tuple[str | None, str | None, float], KnownPartition] = field(default_factory=dict)
    takes: dict[tuple[str | None, str | None], TakeSteps] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(randbits(63)))

    def sign(self, object_id: str, partition: str, bodies: Sequence[bytes]) -> list[bytes]:
        """The bytes of items, each with a number of its own."""
        number = self.numbers.__next__
        numbered = [number().to_bytes(ITEM_NUMBER_BYTES, "big") + body for body in bodies]
        return self.signer.at(item_place(object_id, partition)).sign_each(numbered)

    def put(self, object_id: str, put: PutItems, began: Writer | None = None) -> Op[bool]:
        """Append all of the items, or none if there is no room for them; whether there was.

        `began`: who may have written them already. Raises ResourceExhaustedError for one partition too many.
        """
        for _ in range(2):
            writer, began = began or self.writers.take(), None
            command = self.put_command(object_id, put, writer)
            (reply,) = yield Exchange((command,), shared=len(put.signed) == 1)
            self.writers.give(writer)
            if reply == b"KEPT":
                self._know(object_id, put.partition, put.ttl)
            if reply in (b"OK", b"KEPT"):
                return True
            if reply == b"GONE":
                raise gone(object_id)
            if reply == b"FULL":
                return False
            yield from self._forget_empty(object_id)
        raise ResourceExhaustedError(
            f"Queue {object_id} has {MOST_PARTITIONS} partitions with items, and can have no more."
        )

    def put_command(self, object_id: str, put: PutItems, writer: Writer) -> Command:
        """What appends items; a repetition of the writer's last number does nothing."""
        partition, signed, ttl = put
        record, items = _of_partition(self.keys.prefix, object_id, partition)
        size = sum(map(len, signed))
        return script("put_items").command(
            (record, items, self.keys.wrote(object_id, writer.name)),
            (partition, writer.number, REMEMBER_MS, ttl, size, *_LIMITS),
            more=signed,
        )

    def _know(self, object_id: str, partition: str, ttl: int) -> None:
        if len(self.lately) >= _MOST_LATELY:
            self.lately.clear()
        command = partial(self.put_one_command, object_id, partition, ttl, b"")
        signer = self.signer.at(item_place(object_id, partition))
        known = KnownPartition(command, signer, self.numbers)
        self.lately.setdefault((object_id, partition or None, ttl / 1000), known)

    def put_one_command(
        self, object_id: str, partition: str, ttl: int, signed: bytes, writer: Writer
    ) -> Command:
        """What appends a small item to a partition that is known."""
        _, items = _of_partition(self.keys.prefix, object_id, partition)
        return script("put_item").command(
            (items, self.keys.wrote(object_id, writer.name)),
            (ttl, writer.number, signed),
        )

    def take_steps(self, object_id: str, partition: str) -> TakeSteps:
        """How to take an item from a partition in few steps; they are kept for the next time."""
        if len(self.takes) >= _MOST_LATELY:
            self.takes.clear()
        record, items = _of_partition(self.keys.prefix, object_id, partition)
        packed = head(b"EXISTS", record, more=0) + head(b"LPOP", items, more=0)
        steps = TakeSteps(packed, self.signer.at(item_place(object_id, partition)))
        self.takes[object_id, partition or None] = steps
        return steps

    def take(self, object_id: str, partition: str, count: int) -> Op[list[bytes]]:
        """Remove and return up to so many items."""
        record, items = _of_partition(self.keys.prefix, object_id, partition)
        is_there, found = yield Exchange(
            ((b"EXISTS", record), (b"LPOP", items, count)), shared=True
        )
        if not is_there:
            raise gone(object_id)
        return found or []

    def wait(self, object_id: str, partition: str, count: int, seconds: float) -> Op[list[bytes]]:
        """As `take`, once there is one, waiting in line with all others for up to so many seconds."""
        record, items = _of_partition(self.keys.prefix, object_id, partition)
        end = self.keys.gone(object_id)
        limit = max(0.001, min(WAIT_SECONDS_AT_ONCE, seconds))
        pop = (b"BLMPOP", f"{limit:.3f}", 2, items, end, b"LEFT", b"COUNT", count)
        replies = yield Exchange(((b"EXISTS", record), pop), waits=True, expects=1, seconds=limit)
        if len(replies) < 2:
            raise gone(object_id)
        if replies[1] is None:
            return []
        key, found = replies[1]
        if key == end.encode():  # for the next one that waits, too
            yield from ask((b"LPUSH", end, b""), (b"PEXPIRE", end, _GONE_MS))
            raise gone(object_id)
        return found  # type: ignore[no-any-return]

    def peek_command(self, object_id: str, partition: str, last: bytes, count: int) -> Command:
        """What reads items behind one."""
        return script("peek_items").command(
            _of_partition(self.keys.prefix, object_id, partition), (last, count)
        )

    def peek(
        self, object_id: str, partition: str, last: bytes = b"", count: int = PEEK_AT_ONCE
    ) -> Op[list[bytes]]:
        """Items behind the one that was read last (empty: from the first one on), which stay."""
        reply = yield from ask_one(*self.peek_command(object_id, partition, last, count))
        if reply is None:
            raise gone(object_id)
        return reply  # type: ignore[no-any-return]

    def partitions(self, object_id: str) -> Op[dict[str, int]]:
        """How many items each partition has that is not empty."""
        names = yield from self._known(object_id)
        found: dict[str, int] = {}
        for page in _pages(names):
            lengths = yield from ask(
                *((b"LLEN", self.keys.items(object_id, partition)) for partition in page)
            )
            found |= {name: length for name, length in zip(page, lengths, strict=True) if length}
        return found

    def count(self, object_id: str, partition: str) -> Op[int]:
        """How many items the partition has."""
        length = (b"LLEN", self.keys.items(object_id, partition))
        is_there, count = yield from ask(self._exists(object_id), length)
        if not is_there:
            raise gone(object_id)
        return int(count)

    def clear(self, object_id: str, partitions: Sequence[str] | None) -> Op[None]:
        """Remove all items of these partitions; None: of all."""
        names = (yield from self._known(object_id)) if partitions is None else partitions
        for page in _pages(names):
            removal = (b"UNLINK", *(self.keys.items(object_id, partition) for partition in page))
            is_there, _ = yield from ask(self._exists(object_id), removal)
            if not is_there:
                raise gone(object_id)

    def delete(self, object_id: str) -> Op[bool]:
        """Remove it with all items; False if it was gone already. Who waits for an item hears of it."""
        names = yield from self._listed(object_id)
        end = self.keys.gone(object_id)
        lists = [self.keys.items(object_id, each) for each in names]
        # Together, as who puts into a list that is there does not look for the queue.
        removed, *_ = yield from ask(
            (b"UNLINK", self.keys.object(object_id), *lists[:PARTITIONS_AT_ONCE]),
            (b"LPUSH", end, b""),
            (b"PEXPIRE", end, _GONE_MS),
        )
        for page in _pages(lists[PARTITIONS_AT_ONCE:]):
            yield from ask_one(b"UNLINK", *page)
        return bool(removed)

    def prolong(self, object_id: str, *, patience: float) -> Op[bool]:
        """An ephemeral queue's owner lives: it and its partitions last on; False if it is gone."""
        record = self.keys.object(object_id)
        (is_there,) = yield from ask((b"PEXPIRE", record, EPHEMERAL_MS), patience=patience)
        cursor = b"0"
        while is_there:
            (page, (seconds, _)) = yield from ask(
                (b"HSCAN", record, cursor, b"MATCH", b"p:*", b"COUNT", PARTITIONS_AT_ONCE),
                (b"TIME",),
                patience=patience,
            )
            cursor, flat = page
            until = int(seconds) * 1000 + EPHEMERAL_MS
            for name, end in _named(record, reading.pairs(flat)):
                at = min(until, reading.whole(end) or until)
                # What has been put meanwhile may last longer than what was read here.
                command = (b"PEXPIREAT", self.keys.items(object_id, name), at, b"GT")
                yield from ask(command, patience=patience)
            if cursor == b"0":
                break
        return bool(is_there)

    def _exists(self, object_id: str) -> Command:
        return (b"EXISTS", self.keys.object(object_id))

    def _known(self, object_id: str) -> Op[list[str]]:
        if not (yield from ask_one(*self._exists(object_id))):
            raise gone(object_id)
        return (yield from self._listed(object_id))

    def _listed(self, object_id: str) -> Op[list[str]]:
        """The partitions that something was put into, some of them empty by now."""
        found: dict[str, None] = {}
        cursor = b"0"
        while True:
            key = self.keys.object(object_id)
            page = (b"HSCAN", key, cursor, b"MATCH", b"p:*", b"COUNT", PARTITIONS_AT_ONCE)
            cursor, flat = yield from ask_one(*page)
            found |= dict.fromkeys(name for name, _ in _named(key, reading.pairs(flat)))
            if cursor == b"0":
                return list(found)

    def forget_command(self, object_id: str, partitions: Sequence[str]) -> Command:
        """What forgets those that are empty."""
        record = self.keys.object(object_id)
        return script("forget_partitions").command((record,), more=partitions)

    def _forget_empty(self, object_id: str) -> Op[None]:
        for page in _pages((yield from self._listed(object_id))):
            yield from ask_one(*self.forget_command(object_id, page))


def _named(key: str, fields: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Partitions, from fields of the queue's record that begin with a letter and a colon."""
    for name, value in fields:
        partition = reading.text(name[2:], key)
        if partition is not None:
            yield partition, value


def _pages(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), PARTITIONS_AT_ONCE):
        yield names[at : at + PARTITIONS_AT_ONCE]

"""Dictionaries: keys and signed values in a hash, and beside it by hours when each was used last.

An entry lasts for seven days (and up to an hour) after it was last put or read. Reading it again within the hour
writes nothing: whether it is due is guessed by our clock, and decided by the server's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from qmodal.exception import NotFoundError
from qmodal.store.keys import Keys
from qmodal.store.objects.names import EPHEMERAL_MS
from qmodal.store.objects.writers import REMEMBER_MS, Writers
from qmodal.transport.operation import Command, Exchange, Op, Reply, ask, ask_one
from qmodal.transport.prepacked import bulk, head
from qmodal.transport.script import script

ENTRY_HOURS = 7 * 24
_LIFE_MS = (ENTRY_HOURS + 1) * 3_600_000
_MOST_LATELY = 4096
# Of so many puts of new keys one drops old entries and renews lifetimes, and after so many seconds.
_LOOKS, _STEADY_PUTS, _STEADY_SECONDS = 16, 31, 600
KEYS_AT_ONCE = 500
VALUE_BYTES_AT_ONCE = 4 * 1024 * 1024
# What is smaller may share a connection with others that are under way; nobody should wait behind more.
SHARED_BYTES = 64 * 1024
_HEAD = 20  # key id and MAC, by which a value is known again


def gone(object_id: str) -> NotFoundError:
    """The error for an object that is not there any more."""
    kind = "Dict" if object_id.startswith("di-") else "Queue"
    return NotFoundError(
        f"{kind} with id '{object_id}' not found: it was deleted, or its ephemeral owner has ended."
    )


def is_noted(hour: bytes | None) -> bool:
    """Whether an entry was used in this hour already; the server's clock decides what our guess is worth."""
    return hour is not None and float(hour) >= time.time() / 3600


@lru_cache(maxsize=1024)  # asked for with each put and get, mostly for the same few dictionaries
def _of_dict(prefix: str, object_id: str) -> tuple[str, str, str]:
    keys = Keys(prefix)  # by its text: to hash the keys themselves takes as long as to make them
    return keys.object(object_id), keys.entries(object_id), keys.used(object_id)


class SteadyDict:
    """A dictionary that is not ephemeral, and was looked after a moment ago: new keys are put by plain commands.

    `server`: the server's time in seconds, when ours (monotonic) was `now`. It counts until the hour of the entries
    changes, or the lifetimes are to be renewed, or `left` entries were put.
    """

    __slots__ = ("_begin", "_end", "_middle", "_until", "left")

    def __init__(self, names: tuple[str, str, str], server: int, now: float) -> None:
        _, entries, used = names
        hour = -(-(server + 1) // 3600)
        self.left = _STEADY_PUTS
        self._until = now + min(_STEADY_SECONDS, 3600 * hour - server - 1)
        self._begin = head(b"MULTI", more=0) + head(b"ZADD", used, b"GT", hour, more=1)
        lives = [head(b"PEXPIRE", name, _LIFE_MS, b"NX", more=0) for name in (used, entries)]
        self._middle = lives[0] + head(b"HSET", entries, more=2)
        self._end = lives[1] + head(b"EXEC", more=0)

    def packed(self, key: bytes, value: bytes) -> bytes | None:
        """The commands that put an entry, if `has_put` says so of their six replies; None if it counts no more."""
        self.left -= 1
        if self.left < 0 or time.monotonic() >= self._until:
            return None
        argument = b"$%d\r\n%b\r\n" % (len(key), key)
        parts = (self._begin, argument, self._middle, argument, len(value), value, self._end)
        return b"%b%b%b%b$%d\r\n%b\r\n%b" % parts

    @staticmethod
    def has_put(replies: list[Reply]) -> bool:
        """Whether both keys were there, with their lifetimes; else something was removed meanwhile."""
        done = replies[5]
        return type(done) is list and done[1] == 0 == done[3]


class _Heads(NamedTuple):
    """How the usual commands of a dictionary begin: read, put again and put."""

    hget: bytes
    zscore: bytes
    hset: bytes
    expire: bytes
    put: bytes


@lru_cache(maxsize=1024)
def _heads_of(prefix: str, object_id: str) -> _Heads:
    _, entries, used = names = _of_dict(prefix, object_id)
    put = script("put_entry").command(names, (ENTRY_HOURS, 1, b"", b""))
    return _Heads(
        head(b"HGET", entries, more=1),
        head(b"ZSCORE", used, more=1),
        head(b"HSET", entries, more=2),
        head(b"PEXPIRE", entries, _LIFE_MS, b"NX", more=0),
        head(*put[:-2], more=2),
    )


@dataclass(frozen=True, slots=True)
class Dicts:
    """Operations on dictionaries; all of them raise NotFoundError for one that is gone."""

    keys: Keys
    writers: Writers = field(default_factory=Writers)
    lately: set[tuple[str, bytes]] = field(default_factory=set)  # which keys were put here, of late
    steady: dict[str, SteadyDict] = field(default_factory=dict)

    def _names(self, object_id: str) -> tuple[str, str, str]:
        return _of_dict(self.keys.prefix, object_id)

    def get(self, object_id: str, key: bytes) -> Op[bytes | None]:
        """The value of a key, None if there is none."""
        return self._read(object_id, key, b"HGET")

    def contains(self, object_id: str, key: bytes) -> Op[bool]:
        """Whether there is an entry of that key."""
        found = yield from self._read(object_id, key, b"HSTRLEN")
        return found is not None

    def _read(self, object_id: str, key: bytes, verb: bytes) -> Op[bytes | None]:
        _, entries, used = _of_dict(self.keys.prefix, object_id)
        replies = yield Exchange(((verb, entries, key), (b"ZSCORE", used, key)), shared=True)
        return (yield from self.found(object_id, key, replies))

    def found(self, object_id: str, key: bytes, replies: list[Reply]) -> Op[bytes | None]:
        """What has been read: the value that came for a key, and when it was used."""
        value, hour = replies
        if not value:
            if not (yield from ask_one(b"EXISTS", self.keys.object(object_id))):
                raise gone(object_id)
            return None
        if not is_noted(hour):
            touch = yield from ask_one(*self.touch_command(object_id, key))
            return value if touch else None
        return value  # type: ignore[no-any-return]

    def packed_get(self, object_id: str, key: bytes) -> bytes:
        """The two commands whose replies are for `found`."""
        heads, argument = _heads_of(self.keys.prefix, object_id), bulk(key)
        return b"".join((heads.hget, argument, heads.zscore, argument))

    def touch_command(self, object_id: str, key: bytes) -> Command:
        """What notes that an entry is read now; 0 if its time was over."""
        return script("touch_entry").command(self._names(object_id), (ENTRY_HOURS, key))

    def put_command(self, object_id: str, flat: Sequence[bytes]) -> Command:
        """What puts keys and values, one after the other."""
        if len(flat) == 2:
            return script("put_entry").command(self._names(object_id), (ENTRY_HOURS, _LOOKS, *flat))
        return script("put_entries").command(self._names(object_id), (ENTRY_HOURS,), more=flat)

    def put(self, object_id: str, flat: Sequence[bytes]) -> Op[None]:
        """Put keys and values, one after the other, in one step."""
        is_small = sum(map(len, flat)) < SHARED_BYTES
        if len(flat) == 2 and self.is_known(object_id, flat[0]):
            # Plain commands take half of a script's time. What the index has is there and has its lifetimes; else the
            # script puts it again, and a hash that should not be there goes by itself if we do not get that far.
            _, entries, used = _of_dict(self.keys.prefix, object_id)
            put, look = (b"HSET", entries, *flat), (b"ZSCORE", used, flat[0])
            replies = yield Exchange(
                (put, look, (b"PEXPIRE", entries, _LIFE_MS, b"NX")), shared=is_small
            )
            if is_noted(replies[1]):
                return
        (reply,) = yield Exchange((self.put_command(object_id, flat),), shared=is_small)
        self._check(object_id, reply)
        if len(flat) == 2:
            self.know(object_id, flat[0])

    def is_known(self, object_id: str, key: bytes) -> bool:
        """Whether that key was put here of late, so that it may be put again by plain commands."""
        return (object_id, key) in self.lately

    def know(self, object_id: str, key: bytes) -> None:
        """That key was put here."""
        if len(self.lately) >= _MOST_LATELY:
            self.lately.clear()
        self.lately.add((object_id, key))

    def know_steady(self, object_id: str, server: int, now: float) -> None:
        """That dictionary was looked after at the server's time `server`, and at ours a moment after `now`."""
        if len(self.steady) >= _MOST_LATELY:
            self.steady.clear()
        self.steady[object_id] = SteadyDict(self._names(object_id), server, now)

    def packed_put(self, object_id: str, key: bytes, value: bytes) -> bytes:
        """The command that puts an entry, and looks after the others.

        Its reply is above 0 if it did, and above 1 if it is for `know_steady`.
        """
        return b"".join((_heads_of(self.keys.prefix, object_id).put, bulk(key), bulk(value)))

    def packed_put_again(self, object_id: str, key: bytes, value: bytes) -> bytes:
        """The three commands that put a key again, if the second reply says that `is_noted`."""
        heads, argument = _heads_of(self.keys.prefix, object_id), bulk(key)
        return b"".join((heads.hset, argument, bulk(value), heads.zscore, argument, heads.expire))

    def put_absent(self, object_id: str, key: bytes, value: bytes) -> Op[bool]:
        """Put an entry unless there is one of that key; whether it was put."""
        writer = self.writers.take()
        command = script("put_absent").command(
            (*self._names(object_id), self.keys.wrote(object_id, writer.name)),
            (ENTRY_HOURS, writer.number, REMEMBER_MS, key, value),
        )
        (reply,) = yield Exchange((command,), shared=len(value) < SHARED_BYTES)
        self.writers.give(writer)
        return self._check(object_id, reply)

    def remove(self, object_id: str, key: bytes, value: bytes = b"") -> Op[bool]:
        """Remove the entry of that key, if it has that value; whether it was removed."""
        writer = self.writers.take()
        command = script("take_entry").command(
            (*self._names(object_id), self.keys.wrote(object_id, writer.name)),
            (ENTRY_HOURS, writer.number, REMEMBER_MS, key, value[:_HEAD]),
        )
        (reply,) = yield Exchange((command,), shared=len(value) < SHARED_BYTES)
        self.writers.give(writer)
        return self._check(object_id, reply)

    def clear(self, object_id: str) -> Op[None]:
        """Remove all entries."""
        record, entries, used = self._names(object_id)
        replies = yield from ask((b"UNLINK", entries, used), (b"EXISTS", record))
        self._check(object_id, replies[1] or -1)

    def count_command(self, object_id: str) -> Command:
        """What removes entries whose time is over, and counts."""
        return script("count_entries").command(self._names(object_id), (ENTRY_HOURS,))

    def count(self, object_id: str) -> Op[int]:
        """How many entries there are."""
        while True:
            reply = yield from ask_one(*self.count_command(object_id))
            if reply is None:
                raise gone(object_id)
            expired, left = reply
            if not expired:
                return int(left)

    def scan(self, object_id: str, cursor: bytes) -> Op[tuple[bytes, list[bytes]]]:
        """The next cursor (`0` behind the last) and some keys; one may come twice while others are put."""
        used = self.keys.used(object_id)
        after, flat = yield from ask_one(b"ZSCAN", used, cursor, b"COUNT", KEYS_AT_ONCE)
        return after, flat[::2]

    def read_command(self, object_id: str, keys: Sequence[bytes]) -> Command:
        """What reads values until they are VALUE_BYTES_AT_ONCE."""
        return script("read_entries").command(
            self._names(object_id), (ENTRY_HOURS, VALUE_BYTES_AT_ONCE), more=keys
        )

    def read(self, object_id: str, keys: Sequence[bytes]) -> Op[list[tuple[bytes, bytes]]]:
        """The first of these keys with their values, as many as make some MiB; at least one is looked up.

        Those that have no entry any more are left out; how many were looked up is for the caller to count, so
        it gets pairs for all of them and an empty value for a missing one.
        """
        values = yield from ask_one(*self.read_command(object_id, keys))
        return [(key, value or b"") for key, value in zip(keys, values, strict=False)]

    def delete(self, object_id: str) -> Op[bool]:
        """Remove it with all entries; False if it was gone already."""
        reply: int = yield from ask_one(b"UNLINK", *self._names(object_id))
        return reply > 0

    def prolong(self, object_id: str, *, patience: float) -> Op[bool]:
        """An ephemeral dictionary's owner lives; False if it is gone."""
        names = self._names(object_id)
        replies = yield from ask(
            *((b"PEXPIRE", name, EPHEMERAL_MS) for name in names), patience=patience
        )
        return bool(replies[0])

    def _check(self, object_id: str, reply: int) -> bool:
        if reply == -1:
            raise gone(object_id)
        return reply == 1

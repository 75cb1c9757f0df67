"""Ids of calls, apps, boxes and pools.

The id of a call is a counter behind 83 random bits of its process, so that drawing one costs no system call.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator

# Pools are spread over so many shards; all keys of a pool and of its calls share one.
SHARDS = 64
_HEX = frozenset("0123456789abcdef")
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _letters(length: int) -> str:
    """Random letters; not by `secrets`, which imports all of `random`, a quarter of a mebibyte."""
    number = int.from_bytes(os.urandom(length + 8), "little")  # so long that all are as likely
    return "".join(_ALPHABET[number // 62**place % 62] for place in range(length))


class _Source:
    """The ids of one process; a forked child draws a new prefix, or two would issue the same."""

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.prefix = _letters(14)
        self.counter: Iterator[int] = itertools.count(1)


_source = _Source()


def shard_of(pool: str) -> int:
    """The shard of a pool id: its first two hex digits modulo the (constant) number of shards."""
    return int(pool[:2], 16) % SHARDS


def is_pool_id(text: str) -> bool:
    """Whether the text has the shape of a pool id, so that there can be keys of it."""
    return len(text) == 32 and _HEX.issuperset(text)


def pool_id(app_id: str, function: str, parameters: bytes, variant: bytes = b"") -> str:
    """The id of the pool that serves one function, one set of parameters and one variant."""
    digest = hashlib.sha256()
    for part in (app_id.encode(), function.encode(), parameters, variant):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.hexdigest()[:32]


def new_call_id(shard: int) -> str:
    """A call id on that shard: `fc-`, two digits of the shard, twenty or more alphanumerics."""
    return f"fc-{shard:02d}{_source.prefix}{next(_source.counter):06x}"


def new_app_id() -> str:
    """An app id: `ap-` and exactly 22 alphanumerics."""
    return "ap-" + _letters(22)


def new_object_id(prefix: str) -> str:
    """The id of what programs keep by name: its prefix, two digits of a shard, and 20 alphanumerics."""
    shard = int.from_bytes(os.urandom(2), "little") % SHARDS
    return f"{prefix}-{shard:02d}{_letters(20)}"


def is_object_id(text: str, prefix: str) -> bool:
    """Whether the text has the shape of such an id."""
    own = text[3:]
    is_plain = len(own) == 22 and own.isascii() and own.isalnum() and own[:2].isdigit()
    return text[:3] == f"{prefix}-" and is_plain and int(own[:2]) < SHARDS


def new_writer_id() -> str:
    """The name by which a server knows again what was sent twice."""
    return f"{_source.prefix}{next(_source.counter):x}"


def new_secret_id() -> str:
    """A secret id: `st-` and 22 random alphanumerics."""
    return "st-" + _letters(22)


def new_worker_id() -> str:
    """A worker id; the ids of its containers are made from it."""
    return "wk-" + _letters(10)


def container_id(worker: str, serial: int) -> str:
    """The id of a container, which is its consumer name too and is never used again."""
    return f"ta-{worker[3:]}-{serial}"


def worker_of(container: str) -> str:
    """The worker a container id belongs to."""
    return "wk-" + container[3:].rpartition("-")[0]


def is_container_of(text: str, worker: str) -> bool:
    """Whether the text is an id that a container of this worker may have."""
    start, _, serial = text.rpartition("-")
    is_serial = serial.isascii() and serial.isdecimal() and len(serial) < 20
    return is_serial and start == f"ta-{worker[3:]}"


def input_id(call: str, index: int) -> str:
    """The id of one input of a call."""
    return f"in-{call[3:]}-{index}"


def input_of(name: str) -> tuple[str, int]:
    """The call and the index of an input by its id."""
    call, _, index = name[3:].rpartition("-")
    return f"fc-{call}", int(index)


def derived_call_id(shard: int, pool: str, key: str) -> str:
    """The call id that stands for a key in a pool: the same in any process."""
    digest = hashlib.sha256(f"{pool} {key}".encode()).hexdigest()
    return f"fc-{shard:02d}{digest[:32]}"


def is_call_id(text: str) -> bool:
    """Whether the text has the shape of a call id."""
    return (
        text.startswith("fc-")
        and len(text) >= 20
        and text[3:].isalnum()
        and text.isascii()
        and text[3:5].isdigit()
        and int(text[3:5]) < SHARDS
    )

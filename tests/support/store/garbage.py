"""Every kind of rubbish, in every key: what somebody with the server's password may write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack
import redis

from qmodal.store.keys import Keys
from qmodal.wire.ids import shard_of

VALUES: dict[str, bytes] = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "not a number": b"nan",
    "infinite": b"inf",
    "negative": b"-1",
    "huge": b"9" * 5000,
    "largest": b"9223372036854775807",
    "another shape": msgpack.packb([1, {"a": None}]),
    "a map of other types": msgpack.packb(
        {"container": 1, "worker": [2], "since": float("nan"), "min_containers": "x"}
    ),
    "a map by numbers": msgpack.packb({1: 2}),
}
Write = Callable[[redis.Redis, str], None]


def _into(value: bytes) -> Write:
    def write(plain: redis.Redis, key: str) -> None:
        kind = plain.type(key)
        match kind:
            case b"hash":
                fields: Any = plain.hkeys(key)
                plain.hset(key, mapping=dict.fromkeys([*fields, value, b"foreign"], value))
            case b"zset":
                for score in ("-inf", "-1", "9e15", "+inf"):
                    plain.execute_command("ZADD", key, score, value + score.encode())
                plain.execute_command("ZADD", key, 1, value)
            case b"stream":
                plain.execute_command("XADD", key, "*", value, value)
                plain.execute_command("XADD", key, "*", "c", value, "s", value, "t", value)
                plain.execute_command("XADD", key, "*", "i", value, "o", value)
                plain.execute_command("XADD", key, "*", "e", value, "c", value, "i", value)
            case b"set":
                plain.sadd(key, value)
            case b"list":
                plain.rpush(key, value)
            case _:
                plain.set(key, value)

    return write


def _string(plain: redis.Redis, key: str) -> None:
    plain.set(key, b"no such type")


def _list(plain: redis.Redis, key: str) -> None:
    plain.delete(key)
    plain.rpush(key, b"no such type")


WRITES: dict[str, Write] = {name: _into(value) for name, value in VALUES.items()} | {
    "a string": _string,
    "a list": _list,
}


@contextmanager
def spoiled(plain: redis.Redis, key: str, write: Write) -> Iterator[None]:
    """The key with rubbish in it; as it was behind the block."""
    before: Any = plain.dump(key)
    left: Any = plain.pttl(key)
    write(plain, key)
    try:
        yield
    finally:
        plain.delete(key)
        if before is not None:
            plain.restore(key, max(0, left), before)


@dataclass(frozen=True)
class About:
    """What the tormented keys belong to."""

    pool: str
    call: str
    app: str
    worker: str


# The keys of ARCHITECTURE's table that are read again and again.
NAMES: dict[str, Callable[[Keys, About], str]] = {
    "pool": lambda keys, about: keys.pool(about.pool),
    "inputs": lambda keys, about: keys.inputs(about.pool),
    "again": lambda keys, about: keys.again(about.pool),
    "delayed": lambda keys, about: keys.delayed(about.pool),
    "active": lambda keys, about: keys.active(shard_of(about.pool)),
    "dead": lambda keys, about: keys.dead(shard_of(about.pool)),
    "call": lambda keys, about: keys.call(about.call),
    "outputs": lambda keys, about: keys.outputs(about.call),
    "moved": lambda keys, about: keys.moved(about.call),
    "children": lambda keys, about: keys.children(about.call),
    "more": lambda keys, about: keys.more(about.call),
    "workers": lambda keys, _: keys.workers,
    "worker": lambda keys, about: keys.worker(about.worker),
    "assigned": lambda keys, about: keys.assigned(about.worker),
    "containers": lambda keys, about: keys.containers(about.worker),
    "leader": lambda keys, _: keys.leader,
    "line": lambda keys, _: keys.line,
    "reasons": lambda keys, _: keys.reasons,
    "epoch": lambda keys, _: keys.epoch,
    "apps": lambda keys, _: keys.apps,
    "app": lambda keys, about: keys.app(about.app),
    "client": lambda keys, about: keys.client(about.app),
    "settings": lambda keys, about: keys.settings(about.app),
    "version": lambda keys, about: keys.version(about.app, 1),
    "logs": lambda keys, about: keys.logs(about.app),
    "stopped": lambda keys, _: keys.stopped("main", "gone"),
}

"""Notes of inputs that have failed, for people who look for them: by function, capped by number and age.

A note is written beside the outcome and not with it: it says that an attempt ended so, and stays when the
call itself was delivered and is gone. It is data to look at; only its envelope is signed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import msgpack

from qmodal.store import reading
from qmodal.store.entries import Claimed
from qmodal.store.keys import Keys
from qmodal.transport.operation import Op, ask, ask_one

KEEP_MS = 7 * 24 * 3600 * 1000
# For each function; a server may keep some more, as it removes them in blocks.
MOST_NOTED = 1000
# Of a traceback the end is kept. An envelope above this is not: its input cannot be run again from here.
MOST_TRACE, MOST_ENVELOPE = 16 * 1024, 64 * 1024
# Of inputs that end together, because their containers do not start, so many are noted.
MOST_WAITING = 20
# Seconds that a container waits for a note to be written: it has inputs to run.
NOTE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One input that has failed; times in ms since 1970, `took` in microseconds.

    `kind` is that of its outcome, `reason` one line, `trace` the printed traceback or "". `at` is when it
    was noted, `entry` the place of the note, and `envelope` its signed bytes, or b"" if they were too large to
    keep.
    """

    app: str
    function: str  # tag
    pool: str
    call: str
    index: int
    kind: str
    reason: str
    method: str = ""
    trace: str = ""
    container: str = ""
    created: int = 0
    started: int = 0
    took: int = 0
    retries: int = 0
    lost: int = 0
    at: int = 0
    entry: str = ""
    envelope: bytes = b""


_BESIDE = frozenset(
    {"at", "entry", "envelope"}
)  # what a note does not say, but the entry that it is in
_NOTED = tuple(each.name for each in fields(Failure) if each.name not in _BESIDE)


@dataclass(frozen=True, slots=True)
class Failures:
    """Operations on the notes."""

    keys: Keys

    def note(self, failure: Failure) -> Op[None]:
        """Write a note, if the server answers within a second; raises Error if not."""
        stream, functions = self.keys.failed(failure.app, failure.function), self.keys.failing
        plain = asdict(failure) | {"trace": failure.trace[-MOST_TRACE:]}
        noted = msgpack.packb({name: plain[name] for name in _NOTED}, unicode_errors="replace")
        envelope = failure.envelope if len(failure.envelope) <= MOST_ENVELOPE else b""
        now = time.time_ns() // 1_000_000
        yield from ask(
            (b"XADD", stream, b"MAXLEN", b"~", MOST_NOTED, b"*", b"n", noted, b"e", envelope),
            (b"PEXPIRE", stream, KEEP_MS),
            (b"XTRIM", stream, b"MINID", b"~", now - KEEP_MS),
            (b"ZADD", functions, now, f"{failure.app}/{failure.function}"),
            (b"PEXPIRE", functions, KEEP_MS),
            (b"ZREMRANGEBYSCORE", functions, b"-inf", now - KEEP_MS),
            patience=NOTE_SECONDS,
        )

    def note_waiting(self, pool: str, noted: list[str], *, kind: str, reason: str) -> Op[None]:
        """Note the first inputs of a pool as failed, which are about to be ended for this reason.

        `noted` gets call and index of each one, with a blank between them.
        """
        keys = self.keys
        (app, function), *lanes = yield from ask(
            (b"HMGET", keys.pool(pool), b"app", b"function"),
            *(
                (b"XRANGE", stream, b"-", b"+", b"COUNT", MOST_WAITING)
                for stream in (keys.inputs(pool), keys.again(pool))
            ),
            patience=NOTE_SECONDS,
        )
        found = [Claimed(1, "", tuple(fields or ())) for lane in lanes for _, fields in lane]
        for claimed in [one for one in found if one.is_shaped][:MOST_WAITING]:
            yield from self.note(
                Failure(
                    app=(app or b"").decode(errors="replace"),
                    function=(function or b"").decode(errors="replace"),
                    pool=pool,
                    call=claimed.call,
                    index=claimed.first,
                    kind=kind,
                    reason=reason.strip().rpartition("\n")[2],
                    trace=reason,
                    retries=claimed.retries,
                    lost=claimed.lost,
                    envelope=claimed.envelope,
                )
            )
            noted.append(f"{claimed.call} {claimed.first}")

    def functions(self) -> Op[list[tuple[str, str]]]:
        """App and tag of the functions that have notes, the one that failed last first."""
        key = self.keys.failing
        reply = yield from ask_one(b"ZREVRANGE", key, 0, -1)
        names = [reading.text(raw, key) for raw in reply]
        parts = [name.partition("/") for name in names if name is not None]
        return [(app, tag) for app, slash, tag in parts if slash]

    def recent(
        self, app: str, function: str, *, since: int = 0, count: int, before: str = ""
    ) -> Op[list[Failure]]:
        """The newest notes of a function, newest first: at most `count`, none before `since` (ms).

        `before`: only those behind which this entry stands. An empty list: there are none left.
        """
        key, end = self.keys.failed(app, function), f"({before}" if before else "+"
        start = max(0, since)
        reply = yield from ask_one(b"XREVRANGE", key, end, start, b"COUNT", count)
        found = [_failure(entry, content, key) for entry, content in reply]
        while reply and not any(found):  # none of these is one of ours, and there may be more
            last = reply[-1][0].decode()
            reply = yield from ask_one(b"XREVRANGE", key, f"({last}", start, b"COUNT", count)
            found = [_failure(entry, content, key) for entry, content in reply]
        return [failure for failure in found if failure is not None]


def _failure(entry: bytes, content: Sequence[bytes], where: str) -> Failure | None:
    """The note of an entry; None for what is none of ours."""
    about = dict(zip(content[::2], content[1::2], strict=False))
    plain = reading.mapping(about.get(b"n"), where)
    if plain is None:
        return None
    plain["at"] = int(entry.partition(b"-")[0])
    plain["entry"] = entry.decode()
    plain["envelope"] = about.get(b"e", b"")
    return reading.report(msgpack.packb(plain), Failure, where)

"""Calls: submit inputs, read their outputs, cancel, forget."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from qmodal.exception import InternalFailure
from qmodal.store import reading
from qmodal.store.entries import Submission
from qmodal.store.keys import GROUP, Keys, Lane
from qmodal.store.results.outputs import CallRecord, Output, parse_outputs, parse_reply, read_record
from qmodal.transport.operation import (
    Command,
    Exchange,
    Meanwhile,
    Mergeable,
    Op,
    ask,
    ask_one,
    ask_shared,
)
from qmodal.transport.script import script
from qmodal.transport.sharing.pending_reply import PendingReply
from qmodal.wire.ids import input_of, is_call_id, worker_of

# Without the generated constructor, which takes three times as long.
_new = tuple.__new__
# A payload that is stored apart waits this long for the submit that names it.
BLOB_SECONDS = 3600
# About how many calls made by one call's inputs are kept for its call graph, and for how long.
MOST_CHILDREN = 10_000
CHILDREN_MS = 7 * 24 * 3600 * 1000
# How long a cancel waits for workers that do not answer, and how long a late answer is kept.
TOLD_SECONDS, TOLD_MS = 1.0, 10_000


class GapError(InternalFailure):
    """Inputs before these were refused, or more than these are there."""


class UnknownPoolError(InternalFailure):
    """The pool is not known to the server (yet, or any more): open it and submit again."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Operations on calls that their producers make."""

    keys: Keys

    def submit_commands(self, submission: Submission) -> tuple[Command, ...]:
        """What accepts the inputs; the last command's reply is OK if they were."""
        keys, call, pool = self.keys, submission.call, submission.pool
        blobs = [keys.blob(call, index) for index, _ in submission.blobs]
        names, total, sizes = keys.of_pool(pool), submission.total, submission.sizes
        submit = script("submit").command(
            (keys.call(call), names.pool, names.active, names.wake_marker),
            (
                call,
                pool,
                GROUP,
                keys.wake,
                submission.digest,
                submission.first,
                b"" if total is None else total,
                submission.ttl,
                submission.parent,
                submission.now,
                sum(sizes) if sizes else len(submission.envelopes),
                " ".join(map(str, sizes)),
                submission.reply_to,
            ),
            more_keys=blobs,
            more=submission.envelopes,
        )
        if not blobs and not submission.parent:
            return (submit,)
        stored = tuple(
            (b"SET", key, payload, b"NX", b"EX", BLOB_SECONDS)
            for key, (_, payload) in zip(blobs, submission.blobs, strict=True)
        )
        return (*stored, *self._child_commands(submission), submit)

    def _child_commands(self, submission: Submission) -> tuple[Command, ...]:
        """Note the call with the one whose input makes it, for the call graph."""
        if not submission.parent or submission.first:
            return ()
        parent, index = input_of(submission.parent)
        children = self.keys.children(parent)
        note = (b"XADD", children, b"MAXLEN", b"~", MOST_CHILDREN, b"*", index, submission.call)
        return note, (b"PEXPIRE", children, max(submission.ttl, CHILDREN_MS))

    def submit(self, submission: Submission, *, meanwhile: Meanwhile | None = None) -> Op[None]:
        """Accept the inputs; safe to repeat. Raises UnknownPoolError, EnqueueError."""
        commands = self.submit_commands(submission)
        shared = not submission.blobs and meanwhile is None
        mergeable = self.mergeable(submission) if shared else None
        replies = yield Exchange(commands, meanwhile=meanwhile, shared=shared, mergeable=mergeable)
        check_accepted(replies[-1])

    def mergeable(self, submission: Submission) -> Mergeable | None:
        """The submission of a new call of one input, in a form that one script accepts with others."""
        is_whole = submission.total == 1 and len(submission.envelopes) == 1
        if submission.parent or submission.blobs or not is_whole:
            return None
        values = (
            submission.call,
            submission.digest,
            submission.now,
            submission.envelopes[0],
        )
        kind = (submission.pool, submission.ttl, submission.reply_to)
        return _new(Mergeable, (kind, values, self.submit_each_command))

    def submit_each_command(
        self, kind: tuple[str, int, str], calls: Sequence[tuple[Any, ...]]
    ) -> Command:
        """What accepts several new calls of one input; replies as of a submit, one for each.

        `kind`: the pool, the lifetime of results in ms and the reply stream that all of them have in common.
        """
        keys = self.keys
        pool, ttl, reply_to = kind
        names = keys.of_pool(pool)
        return script("submit_each").command(
            (names.pool, names.active, names.wake_marker),
            (pool, GROUP, keys.wake, ttl, reply_to),
            more_keys=[keys.call(values[0]) for values in calls],
            more=chain.from_iterable(calls),
        )

    def request_together(self, submission: Submission, *, block: int) -> Op[list[Output]]:
        """Submit a single input with others, and wait up to `block` ms for its pending reply."""
        mergeable = self.mergeable(submission)
        commands = () if mergeable else self.submit_commands(submission)
        sent = len(commands) or 1
        replies = yield Exchange(
            commands,
            expects=b"OK",
            shared=True,
            pending_reply=submission.pending_reply,
            seconds=block / 1000,
            mergeable=mergeable,
        )
        check_accepted(replies[sent - 1])
        return parse_reply(replies[sent]) if len(replies) > sent else []

    def wait(self, pending: PendingReply, *, block: int) -> Op[list[Output]]:
        """What comes from the reply stream; nothing after `block` ms without it."""
        replies = yield Exchange((), shared=True, pending_reply=pending, seconds=block / 1000)
        return parse_reply(replies[-1]) if replies else []

    def request(
        self,
        submission: Submission,
        *,
        cursor: bytes = b"0",
        block: int = 1000,
        meanwhile: Meanwhile | None = None,
        shared: bool = False,
    ) -> Op[list[Output]]:
        """Submit, and read outputs behind the cursor, waiting up to `block` ms, in one round trip."""
        commands = self.submit_commands(submission)
        read = self.read_command(submission.call, cursor, block=block)
        replies = yield Exchange(
            (*commands, read),
            waits=block > 0,
            expects=b"OK",
            meanwhile=meanwhile,
            shared=shared,
        )
        check_accepted(replies[len(commands) - 1] if len(replies) >= len(commands) else replies[-1])
        return parse_outputs(replies[-1])

    def read_command(self, call: str, cursor: bytes, *, block: int, count: int = 100) -> Command:
        """The command that reads outputs behind the cursor, waiting up to `block` ms if > 0."""
        waiting: tuple[Any, ...] = (b"BLOCK", block) if block else ()
        return (b"XREAD", b"COUNT", count, *waiting, b"STREAMS", self.keys.outputs(call), cursor)

    def read(self, call: str, cursor: bytes, *, block: int, count: int = 100) -> Op[list[Output]]:
        """Outputs behind the cursor; an empty list after `block` ms without any.

        From the start it does not wait for a call that does not exist.
        """
        command = self.read_command(call, cursor, block=block, count=count)
        if cursor == b"0" and block:
            look = (b"EXISTS", self.keys.call(call))
            replies = yield Exchange((look, command), waits=True, expects=1)
            return parse_outputs(replies[1]) if len(replies) > 1 else []
        replies = yield Exchange((command,), waits=bool(block), shared=not block)
        return parse_outputs(replies[0])

    def read_several(
        self, cursors: Mapping[str, bytes], *, block: int
    ) -> Op[dict[str, list[Output]]]:
        """Outputs of calls, each behind its cursor, by one read; it waits for the first of them all."""
        names = {self.keys.outputs(call).encode(): call for call in cursors}
        command = (b"XREAD", b"COUNT", 100, b"BLOCK", block, b"STREAMS", *names, *cursors.values())
        (reply,) = yield Exchange((command,), waits=True)
        return {
            names[stream]: parse_outputs([(stream, entries)]) for stream, entries in reply or ()
        }

    def record(self, call: str) -> Op[CallRecord | None]:
        """The call's record; None if it never existed, expired or was delivered."""
        return (yield from read_record(self.keys.call(call)))

    def result_blob(self, call: str, index: int) -> Op[bytes | None]:
        """An outcome's payload that was stored apart."""
        reply: bytes | None = yield from ask_one(b"GET", self.keys.result_blob(call, index))
        return reply

    def input_blob(self, call: str, index: int) -> Op[bytes | None]:
        """An argument payload that was stored apart."""
        reply: bytes | None = yield from ask_one(b"GET", self.keys.blob(call, index))
        return reply

    def forget_command(self, call: str, indexes: Sequence[int] = ()) -> Command:
        """The command that deletes a delivered call."""
        key = self.keys.call(call)
        command = (b"UNLINK", key, key + ":outputs", key + ":children")
        return (
            (*command, *(self.keys.result_blob(call, each) for each in indexes))
            if indexes
            else command
        )

    def forget_result_command(self, call: str, index: int) -> Command:
        """The command that deletes a delivered payload that was stored apart."""
        return (b"UNLINK", self.keys.result_blob(call, index))

    def delivered_command(self, call: str, cursor: bytes) -> Command:
        """The command that deletes the outputs up to the cursor, but for less than a hundred of them.

        Whole nodes of the stream go in one step each; to be exact takes a step for every entry.
        """
        return (b"XTRIM", self.keys.outputs(call), b"MINID", b"~", cursor)

    def prolong(self, call: str, ttl: int) -> Op[None]:
        """Keep a call of which nothing is in flight for another `ttl` ms: more will come."""
        names = (self.keys.call(call), self.keys.outputs(call))
        yield from ask(*((b"PEXPIRE", name, ttl, b"GT") for name in names))

    def cancel(self, call: str, *, spare: bool = False) -> Op[list[tuple[str, str]]]:
        """Cancel all inputs; returns (container, entry) of those that were running.

        With `spare` those that containers hold go on, and only what is queued is ended.
        """
        record = yield from self.record(call)
        if record is None or (record.is_finished and record.state != "cancelled"):
            return []
        (ends,) = yield from ask_shared((b"HMGET", self.keys.call(call), b"from", b"to"))
        # A call without inputs has no range, and has to be marked as cancelled all the same.
        first = ends[0] or b"0-1"
        last = ends[1] or first
        running = yield from self._cancel_range(call, record.pool, 1, (first, last), spare)
        (moved,) = yield from ask_shared((b"SMEMBERS", self.keys.moved(call)))
        for entry in moved:
            running += yield from self._cancel_range(call, record.pool, 2, (entry, entry), spare)
        return running

    def _cancel_range(
        self, call: str, pool: str, lane: Lane, between: tuple[bytes, bytes], spare: bool
    ) -> Op[list[tuple[str, str]]]:
        keys = self.keys
        names = (
            keys.call(call),
            keys.outputs(call),
            keys.pool(pool),
            keys.again(pool) if lane == 2 else keys.inputs(pool),
            keys.moved(call),
        )
        running: list[tuple[str, str]] = []
        first, last = between
        while first:
            cancel = script("cancel").command(names, (GROUP, lane, call, int(spare), first, last))
            ((behind, *found),) = yield from ask_shared(cancel)
            holders = [reading.name(part) for part in found]
            running += zip(holders[::2], holders[1::2], strict=True)
            first = behind and b"(" + behind
        return running

    def tell_cancelled(self, running: Sequence[tuple[str, str]], *, kill: bool = False) -> Op[None]:
        """As `nudge_cancelled`; returns once the workers have heard it, after a second at the most.

        From then on no container of theirs starts one of these inputs.
        """
        yield from self.nudge_cancelled(running, kill=kill)
        workers = {worker_of(holder) for holder, _ in running}
        if not workers:
            return
        token = secrets.token_hex(8)
        reached = yield from ask(
            *((b"PUBLISH", self.keys.nudge(each), f"told {token}") for each in workers)
        )
        yield from wait_for_answers(
            self.keys.told(token), sum(map(bool, reached)), seconds=TOLD_SECONDS
        )

    def heard(self, token: str) -> Op[None]:
        """A worker has heard all that was published before the token."""
        key = self.keys.told(token)
        yield from ask((b"RPUSH", key, 1), (b"PEXPIRE", key, TOLD_MS), patience=TOLD_SECONDS)

    def nudge_cancelled(
        self, running: Sequence[tuple[str, str]], *, kill: bool = False
    ) -> Op[None]:
        """Tell the workers of running inputs at once; their own check would find out later."""
        verb = "killed" if kill else "cancelled"
        if running:
            yield from ask_shared(
                *(
                    (b"PUBLISH", self.keys.nudge(worker_of(holder)), f"{verb} {holder} {entry}")
                    for holder, entry in running
                    if holder.isascii()  # a foreign reader's name may be any bytes
                )
            )


def wait_for_answers(key: str, count: int, *, seconds: float) -> Op[None]:
    """Return once so many workers have said that they heard (`Calls.heard`), or after so many seconds."""
    ends = time.monotonic() + seconds
    for _ in range(count):
        left = round(max(0.01, ends - time.monotonic()), 3)
        yield Exchange(((b"BLPOP", key, left),), waits=True, patience=left)


def check_accepted(reply: object) -> None:
    """Raise what a submit's reply other than OK means."""
    match reply:
        case b"OK":
            return
        case b"POOL":
            raise UnknownPoolError
        case b"TAKEN":
            raise InternalFailure(
                "another call has this id; was this process forked while calling?"
            )
        case b"GAP":
            raise GapError("an earlier chunk of this call was refused; start the map again")
        case _:
            raise InternalFailure(f"submit answered {reply!r}")


# How long the children of a delivered call are remembered for the call graph of who made it.
DELIVERED_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Child:
    """A call made by the input of this index; `told` holds its receipt once it was delivered and is gone."""

    index: int
    call: str
    pool: str = ""
    told: str = ""


@dataclass(frozen=True, slots=True)
class Children:
    """Operations on the calls that inputs of a call made."""

    keys: Keys

    def forget_commands(
        self, parent: str, call: str, indexes: Iterable[int], *, pool: str, told: str
    ) -> tuple[Command, ...]:
        """What deletes a delivered call that the input `parent` made, but for what a graph shows."""
        keys = self.keys
        name, index = input_of(parent)
        blobs = [keys.result_blob(call, each) for each in indexes]
        bounds = (b"NOMKSTREAM", b"MAXLEN", b"~", MOST_CHILDREN)
        return (
            (b"UNLINK", keys.call(call), keys.outputs(call), keys.moved(call), *blobs),
            (b"PEXPIRE", keys.children(call), DELIVERED_MS),
            (b"XADD", keys.children(name), *bounds, b"*", index, call, pool, told),
        )

    def of(self, call: str) -> Op[list[Child]]:
        """The calls that a call's inputs made, each once."""
        entries = yield from ask_one(b"XRANGE", self.keys.children(call), b"-", b"+")
        # A submit that was repeated noted it twice; the note of its end comes last.
        found = [_child(fields) for _, fields in entries]
        return list({child.call: child for child in found if child is not None}.values())


def _child(fields: Sequence[bytes]) -> Child | None:
    """What an entry notes; None for what is no note of ours."""
    index = reading.whole(fields[0])
    name, *ended = (part.decode(errors="replace") for part in fields[1:])
    if index is None or index < 0 or not is_call_id(name) or len(ended) not in (0, 2):
        return None
    return Child(index, name, *ended)

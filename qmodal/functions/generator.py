"""Generators that run elsewhere: their items, for `f.remote_gen(...)`."""

from __future__ import annotations

from collections import deque
from typing import Any

from qmodal.client.client import Client, current
from qmodal.client.verb import Stream
from qmodal.exception import (
    CallCancelled,
    DeserializationError,
    ExecutionError,
    OutputExpiredError,
    clause,
)
from qmodal.functions.map.inputs import Arguments
from qmodal.functions.receipts import forget
from qmodal.functions.remote import ABANDON_SECONDS
from qmodal.functions.results import FIRST_BLOCK_MS, OutputReader, resolve
from qmodal.functions.submission import (
    DELIVERED_TTL_MS,
    call_id_for,
    request,
    submission_of,
    traced,
)
from qmodal.functions.target import FindTarget, Target
from qmodal.store.entries import Submission
from qmodal.store.results.outputs import Output
from qmodal.transport.operation import AtMost, Op
from qmodal.wire.envelope import MalformedError
from qmodal.wire.item import Item, open_item
from qmodal.wire.payload import load_value
from qmodal.wire.signing import BadSignatureError, UnknownKeyError, digest_of

END: Any = object()
SKIP: Any = object()


class ItemStream(Stream[Any]):
    """The items of a generator that runs elsewhere; nothing is sent before the first is asked for."""

    def __init__(self, find: FindTarget, arguments: Arguments) -> None:
        self._find = find
        self._arguments = arguments
        self._reader: ItemReader | None = None
        self._fresh: deque[Output] = deque()

    def next(self) -> Op[list[Any] | None]:
        """The next item by itself: what comes behind it may be an exception."""
        reader = self._reader
        if reader is None:
            target = yield from self._find()
            reader = self._reader = ItemReader(current(), target)
            self._fresh.extend((yield from reader.start(self._arguments)))
        while True:
            while self._fresh:
                value = yield from reader.value(self._fresh.popleft())
                if value is END:
                    return None
                if value is not SKIP:
                    return [value]
            self._fresh.extend((yield from reader.read()))

    def close(self) -> Op[None]:
        """Forget the call; one that still runs goes on, and its items are dropped."""
        if self._reader is not None:
            yield from self._reader.close()


class ItemReader:
    """Reads one generator's items in their order, each once."""

    def __init__(self, client: Client, target: Target) -> None:
        self._client = client
        self._target = target
        self._reader = OutputReader(client, call_id_for(target))
        self._request = b""
        self._next = 0
        self._taken: list[bytes] = []
        self._is_ended = False
        self._submission: Submission | None = None
        self._error: BaseException | None = None
        self._span = traced(target, self._reader.call)

    def start(self, arguments: Arguments) -> Op[list[Output]]:
        """Submit, and wait for what comes first."""
        submission = submission_of(
            self._client,
            self._target,
            [arguments],
            call=self._reader.call,
            total=1,
            trace=self._span.trace,
        )
        submission.ttl = DELIVERED_TTL_MS
        self._submission = submission
        self._request = submission.digest
        self._reader.quiet_ms = FIRST_BLOCK_MS
        return (yield from request(self._client, self._target, submission))

    def read(self) -> Op[list[Output]]:
        """What comes next; what was read before is removed, which makes room for more."""
        taken, self._taken = self._taken, []
        call, cursor = self._reader.call, self._reader.cursor
        block = self._reader.block_ms
        outputs = yield from self._client.items.take(call, taken, cursor, block=block)
        if not outputs:
            yield from self._reader.check(block)
        return outputs

    def value(self, output: Output) -> Op[Any]:
        """The item; END after the last, SKIP for one that was there before. Raises as `resolve`."""
        self._reader.cursor, self._reader.quiet_ms = output.entry, 0
        if output.is_item:
            return (yield from self._item(output))
        if output.is_foreign:
            self._taken.append(output.entry)  # it takes up room
            return SKIP
        if output.index < 0:
            raise CallCancelled(f"call {self._reader.call} was cancelled")
        self._is_ended = True
        try:
            made = yield from resolve(
                self._client, self._reader.call, output, request=self._request
            )
        except BaseException as error:  # also SystemExit, which user code may raise
            self._error = error
            raise
        if made != self._next:
            raise OutputExpiredError(f"{made} items were produced, and {self._next} arrived")
        return END

    def _item(self, output: Output) -> Op[Any]:
        self._taken.append(output.entry)
        item = self._opened(output)
        if item.number < self._next:
            return SKIP
        if item.number > self._next:
            raise OutputExpiredError(f"item {self._next} of {self._reader.call} was lost")
        self._next += 1
        payload = item.payload
        if item.blob is not None:
            payload = yield from self._stored(output, item)
        return load_value(
            item.format, payload, plain_only=self._client.settings.payloads == "plain"
        )

    def _opened(self, output: Output) -> Item:
        call = self._reader.call
        try:
            return open_item(
                output.signed or b"",
                self._client.signer,
                call=call,
                index=output.index,
                request=self._request,
            )
        except (BadSignatureError, UnknownKeyError, MalformedError) as error:
            raise ExecutionError(
                f"an item of {call} was not signed for it with this process's key ({clause(error)}); it was "
                "not opened. Do all machines use the same QMODAL_SIGNING_KEY?"
            ) from error

    def _stored(self, output: Output, item: Item) -> Op[bytes]:
        call = self._reader.call
        stored = yield from self._client.items.fetch(call, output.index, item.number)
        if stored is None:
            raise OutputExpiredError(f"item {item.number} of {call} is gone")
        if digest_of(stored) != item.blob:
            raise DeserializationError(
                f"item {item.number} of {call} was changed; it was not opened"
            )
        return stored

    def close(self) -> Op[None]:
        """Forget the call; one that still runs goes on, and its items are dropped."""
        submission = self._submission
        self._span.end(self._error)
        if submission is not None and self._is_ended:
            yield from forget(self._client, submission, self._error)
        elif submission is not None:
            yield AtMost(self._client.items.close(self._reader.call), ABANDON_SECONDS)

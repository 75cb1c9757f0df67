"""Generators that run elsewhere: `f.remote_gen(...)` and `async for ... in f.remote_gen.aio(...)`."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from typing import Any, Generic, ParamSpec

from qmodal.client.client import Client, current_for
from qmodal.client.verb import is_in_loop
from qmodal.exception import (
    AsyncUsageWarning,
    DeserializationError,
    Error,
    ExecutionError,
    OutputExpiredError,
    RemoteError,
    clause,
)
from qmodal.functions.definition import LocalSource, Source
from qmodal.functions.map.inputs import Arguments
from qmodal.functions.receipts import forget
from qmodal.functions.remote import ABANDON_SECONDS
from qmodal.functions.results import BLOCK_MS, OutputReader, resolve
from qmodal.functions.submission import DELIVERED_TTL_MS, call_id_for, request, submission_of
from qmodal.functions.target import FindTarget, Target
from qmodal.store.calls import Submission
from qmodal.store.outputs import Output
from qmodal.transport.operation import AtMost, Op
from qmodal.wire.digest import digest_of
from qmodal.wire.envelope import MalformedError
from qmodal.wire.item import Item, open_item
from qmodal.wire.payload import load_value
from qmodal.wire.signing import BadSignatureError, UnknownKeyError

P = ParamSpec("P")
END: Any = object()
SKIP: Any = object()


class RemoteGen(Generic[P]):
    """The verb bound to its function."""

    __slots__ = ("_find",)

    def __init__(self, find: FindTarget) -> None:
        self._find = find

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Generator[Any, None, None]:
        """The items; nothing is sent before the first is asked for."""
        return self._iterate((args, kwargs))

    def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Any, None]:
        """The items, without blocking the event loop."""
        return self._aiterate((args, kwargs))

    def _iterate(self, arguments: Arguments) -> Generator[Any, None, None]:
        if is_in_loop():
            warnings.warn(
                "remote_gen blocks the event loop; use `async for ... in f.remote_gen.aio(...)`",
                AsyncUsageWarning,
                stacklevel=3,
            )
        client = current_for(self._find)
        stream = ItemStream(client, client.run(self._find()))
        try:
            fresh = client.run(stream.start(arguments))
            while True:
                for output in fresh:
                    value = client.run(stream.value(output))
                    if value is END:
                        return
                    if value is not SKIP:
                        yield value
                fresh = client.run(stream.read())
        finally:
            # Also while the process or its server goes away: nobody is left to tell.
            with suppress(Error):
                client.run(stream.close())

    async def _aiterate(self, arguments: Arguments) -> AsyncGenerator[Any, None]:
        client = current_for(self._find)
        stream = ItemStream(client, await client.aio(self._find()))
        try:
            fresh = await client.aio(stream.start(arguments))
            while True:
                for output in fresh:
                    value = await client.aio(stream.value(output))
                    if value is END:
                        return
                    if value is not SKIP:
                        yield value
                fresh = await client.aio(stream.read())
        finally:
            with suppress(Error):
                await client.aio(stream.close())


class ItemStream:
    """One generator's items in their order, each once."""

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

    def start(self, arguments: Arguments) -> Op[list[Output]]:
        """Submit, and wait for what comes first."""
        submission = submission_of(
            self._client,
            self._target,
            [arguments],
            call=self._reader.call,
            total=1,
            ttl=DELIVERED_TTL_MS,
        )
        self._submission = submission
        self._request = submission.digest
        return (yield from request(self._client, self._target, submission))

    def read(self) -> Op[list[Output]]:
        """What comes next; what was read before is removed, which makes room for more."""
        taken, self._taken = self._taken, []
        call, cursor = self._reader.call, self._reader.cursor
        outputs = yield from self._client.items.take(call, taken, cursor, block=BLOCK_MS)
        if not outputs:
            yield from self._reader.check()
        return outputs

    def value(self, output: Output) -> Op[Any]:
        """The item; END after the last, SKIP for one that was there before. Raises as `resolve`."""
        self._reader.cursor = output.entry
        if output.is_item:
            return (yield from self._item(output))
        if output.is_foreign:
            self._taken.append(output.entry)  # it takes up room
            return SKIP
        if output.index < 0:
            raise RemoteError(f"call {self._reader.call} was cancelled")
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
        if submission is not None and self._is_ended:
            yield from forget(self._client, submission, self._error)
        elif submission is not None:
            yield AtMost(self._client.items.close(self._reader.call), ABANDON_SECONDS)


def refusal(verb: str) -> str:
    """What somebody is told who calls a generator as a function, or a function as a generator."""
    if verb == "remote_gen":
        return (
            "A non-generator function cannot be called with `.remote_gen(...)`. "
            "Use `.remote(...)` instead."
        )
    if verb == "spawn":
        return "Cannot `spawn` a generator function."
    hint = " Use `.remote_gen(...)` instead." if verb == "remote" else ""
    return f"A generator function cannot be called with `.{verb}(...)`.{hint}"


def yields(source: Source, method: str) -> bool:
    """Whether a function of a local app was registered as a generator."""
    if not isinstance(source, LocalSource):
        return False
    entry = source.registry.entries.get(source.tag)
    return entry is not None and method in entry.methods and entry.methods[method].is_generator

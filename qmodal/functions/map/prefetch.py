"""Prefetch: submits inputs that are at hand, and makes the next chunk while the server works on the last one.

No thread could be faster. It is the same operation for plain and for asyncio callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qmodal.exception import Error
from qmodal.functions.map.inputs import Arguments, InputReader
from qmodal.functions.map.map_call import InputBatch, MapCall
from qmodal.transport.operation import Op


class Prefetch:
    """Submits inputs that are in lists and the like, chunk by chunk."""

    def __init__(self, map_call: MapCall[Any], inputs: InputReader) -> None:
        self._map_call = map_call
        self._next_inputs = inputs.taker(map_call.submitted)
        map_call.pack_sizer.count(inputs.count)
        self._first = map_call.submitted
        self._next: InputBatch | None = None
        self._is_exhausted = map_call.is_fed
        self._error: Exception | None = None

    def step(self) -> Op[None]:
        """Submit a chunk, if there is room for it, and take in results in the same round trip."""
        call, batch = self._map_call, (yield from self._upcoming())
        count = 0 if batch is None else len(batch.chunk)
        if batch is None or (call.room < count and not call.is_idle):
            # Something is missing even if as much has arrived as was submitted here: another producer
            # of the same call may have submitted more.
            yield from call.receive(call.block_ms)
        elif not count:
            yield from call.feed([], is_last=True)
            self._next = None
        else:
            self._next = None
            has_room = not batch.is_last and call.room - count >= call.chunk
            block = 0 if has_room else call.block_ms
            yield from call.submit_and_receive(batch, block=block, meanwhile=self._make)

    def upcoming(self) -> Op[int]:
        """How many inputs `submit` would submit; 0 at the end."""
        batch = yield from self._upcoming()
        return 0 if batch is None else len(batch.chunk)

    def submit(self) -> Op[None]:
        """Submit a chunk of a call that nobody reads meanwhile."""
        batch = yield from self._upcoming()
        assert batch is not None
        self._next = None
        yield from self._map_call.submit(batch, meanwhile=self._make)

    def _upcoming(self) -> Op[InputBatch | None]:
        if not self._is_exhausted and self._next is None:
            chunk = self._take()
            if not self._first and not self._is_exhausted:
                yield from self._map_call.expect_service_time()
            self._seal(chunk)
        if self._error is not None:
            raise self._error
        return self._next

    def _make(self) -> None:
        """Make the next one, unless it was: what is sent meanwhile may have to be sent again."""
        if not self._is_exhausted and self._next is None:
            self._seal(self._take())

    def _take(self) -> Sequence[Arguments]:
        count = self._map_call.chunk
        try:
            chunk = self._next_inputs(count)
        except Exception as error:  # elements that `starmap` cannot unpack
            self._fail(error)
            return []
        self._is_exhausted = len(chunk) < count
        return chunk

    def _seal(self, chunk: Sequence[Arguments]) -> None:
        if self._error is None:
            try:
                batch = self._map_call.batch(chunk, first=self._first, is_last=self._is_exhausted)
            except Error as error:
                self._fail(error)
            else:
                self._next = batch
                self._first = batch.end

    def _fail(self, error: Exception) -> None:
        """It is raised once what was sent meanwhile has its place."""
        self._error, self._is_exhausted = error, True

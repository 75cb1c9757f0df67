"""Inputs that are at hand: the next chunk is made while the server works on the last one.

No thread could be faster. It is the same operation for plain and for asyncio callers.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from qmodal.exception import Error
from qmodal.fanout import Batch, Fanout
from qmodal.inputs import Inputs
from qmodal.store.exchange import Op
from qmodal.target import Arguments


class Ahead:
    """Submits inputs whose iterator can neither wait nor run code of the program."""

    def __init__(self, fanout: Fanout[Any], inputs: Inputs) -> None:
        self._fanout = fanout
        self._inputs = islice(inputs.plain(), fanout.submitted, None)
        fanout.packing.count(inputs.count)
        self._first = fanout.submitted
        self._next: Batch | None = None
        self._is_taken = fanout.is_fed
        self._error: Error | None = None

    def step(self) -> Op[None]:
        """Submit a chunk, if there is room for it, and take in results in the same round trip."""
        fanout, batch = self._fanout, (yield from self._upcoming())
        count = 0 if batch is None else len(batch.chunk)
        if batch is None or fanout.room < count:
            if fanout.settled < fanout.submitted:
                yield from fanout.receive(fanout.patience)
        elif not count:
            yield from fanout.feed([], is_last=True)
            self._next = None
        else:
            self._next = None
            has_room = not batch.is_last and fanout.room - count >= fanout.chunk
            block = 0 if has_room else fanout.patience
            yield from fanout.exchange(batch, block=block, meanwhile=self._make)

    def send(self) -> Op[None]:
        """Submit a chunk of a call that nobody reads meanwhile."""
        batch = yield from self._upcoming()
        assert batch is not None
        self._next = None
        yield from self._fanout.send(batch, meanwhile=self._make)

    def _upcoming(self) -> Op[Batch | None]:
        if not self._is_taken and self._next is None:
            chunk = self._take()
            if not self._first and not self._is_taken:
                yield from self._fanout.learn()
            self._seal(chunk)
        if self._error is not None:
            raise self._error
        return self._next

    def _make(self) -> None:
        """Make the next one; again, if what was sent meanwhile has to be sent again."""
        if not self._is_taken and self._next is None:
            self._seal(self._take())

    def _take(self) -> list[Arguments]:
        count = self._fanout.chunk
        chunk = list(islice(self._inputs, count))
        self._is_taken = len(chunk) < count
        return chunk

    def _seal(self, chunk: list[Arguments]) -> None:
        try:
            self._next = self._fanout.batch(chunk, first=self._first, is_last=self._is_taken)
        except Error as error:  # what was submitted before it comes first
            self._error, self._is_taken = error, True
        self._first += len(chunk)

"""How a map's inputs get to the server while its results are read: for plain callers."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

from qmodal.client.client import Client
from qmodal.functions.map.inputs import Arguments, InputReader
from qmodal.functions.map.map_call import CHUNK, MapCall
from qmodal.functions.map.prefetch import Prefetch

# Inputs that are taken from the iterator before there is room for them.
READ_AHEAD = 2 * CHUNK
PROLONG_SECONDS = 600.0


class Feeder(Protocol):
    """Submits inputs; used by the thread that takes the results."""

    def step(self) -> None:
        """Take in results, or wait until there may be some; raises what the input iterator raised."""

    def stop(self) -> None:
        """Submit nothing any more; what is on its way has arrived afterwards."""


class InlineFeeder:
    """Takes inputs that are at hand between two reads."""

    def __init__(self, client: Client, ahead: Prefetch) -> None:
        self._client = client
        self._ahead = ahead

    def step(self) -> None:
        """Submit a chunk, if there is room for it, and read in the same round trip."""
        self._client.run(self._ahead.step())

    def stop(self) -> None:
        """There is nothing that goes on by itself."""


class ThreadedFeeder:
    """One thread takes inputs, which may wait, and another one submits what there is."""

    def __init__(self, client: Client, fanout: MapCall[Any], inputs: Iterator[Arguments]) -> None:
        self._client = client
        self._fanout = fanout
        self._inputs = inputs
        self._waiting: deque[Arguments] = deque()
        self._turn = threading.Condition()
        self._sending = threading.Lock()
        self._is_read = False
        self._is_stopped = False
        self._error: BaseException | None = None
        for body in (self._read, self._send):
            # The program's context goes along: which input a call is made by is in it.
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._guard, body), daemon=True).start()

    def step(self) -> None:
        """Wait until something was submitted that has no result yet, or all has been; then read."""
        fanout = self._fanout
        while not self._wait():
            self._client.run(fanout.prolong())
        if self._error is not None:
            raise self._error
        if fanout.settled < fanout.submitted or fanout.arrivals.waiting:
            self._client.run(fanout.receive(fanout.patience))

    def stop(self) -> None:
        """A thread that waits for the iterator ends when that gives something."""
        with self._turn:
            self._is_stopped = True
            self._turn.notify_all()
        with self._sending:
            return

    def _wait(self) -> bool:
        with self._turn:
            self._turn.notify_all()  # results that were taken have made room
            return self._turn.wait_for(self._has_news, PROLONG_SECONDS)

    def _has_news(self) -> bool:
        fanout = self._fanout
        is_moving = fanout.is_fed or fanout.arrivals.is_ready or fanout.settled < fanout.submitted
        return is_moving or self._error is not None

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            with self._turn:
                self._error = error
                self._turn.notify_all()

    def _read(self) -> None:
        for arguments in self._inputs:
            with self._turn:
                self._turn.wait_for(lambda: len(self._waiting) < READ_AHEAD or self._is_over())
                if self._is_over():
                    return
                self._waiting.append(arguments)
                self._turn.notify_all()
        with self._turn:
            self._is_read = True
            self._turn.notify_all()

    def _is_over(self) -> bool:
        return self._is_stopped or self._error is not None

    def _send(self) -> None:
        while not self._fanout.is_fed and not self._is_over():
            with self._turn:
                self._turn.wait_for(self._can_send)
                count = max(0, min(self._fanout.chunk, self._fanout.room, len(self._waiting)))
                chunk = [self._waiting.popleft() for _ in range(count)]
                is_last = self._is_read and not self._waiting
            with self._sending:
                if not self._is_over():
                    self._client.run(self._fanout.feed(chunk, is_last=is_last))
            with self._turn:
                self._turn.notify_all()

    def _can_send(self) -> bool:
        if self._is_over():
            return True
        return self._fanout.room > 0 if self._waiting else self._is_read


def feeding(client: Client, fanout: MapCall[Any], inputs: InputReader) -> Feeder:
    """The feeder for these inputs; those that were submitted before are left out."""
    if inputs.is_at_hand or fanout.is_fed:
        return InlineFeeder(client, Prefetch(fanout, inputs))
    return ThreadedFeeder(client, fanout, islice(inputs.plain(), fanout.submitted, None))

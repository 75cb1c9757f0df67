"""What a gateway counts of its requests, if it serves metrics; all by the thread of its loop."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from qmodal.services.gateway.exchange.peer import Send
from qmodal.store.history.statistics import BOUNDS, BUCKETS

# Environment, app and function of a request; all empty if its address leads nowhere.
Function = tuple[str, str, str]
NOWHERE: Function = ("", "", "")


@dataclass(slots=True)
class Times:
    """A histogram: how many times fell into each bucket, and the sum of all in seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Take in one more."""
        self.buckets[bisect_left(BOUNDS, seconds * 1e6)] += 1
        self.total += seconds


class Counting:
    """One request under way; it is its `send`, so that it sees the first byte of the response."""

    __slots__ = ("_began", "_figures", "_first", "_send")

    def __init__(self, figures: GatewayFigures, send: Send) -> None:
        self._figures = figures
        self._send = send
        self._began = time.monotonic()
        self._first = 0.0  # seconds until the first byte
        figures.in_flight += 1

    async def send(self, message: Any) -> None:
        """Send a message of the response."""
        if not self._first:
            self._first = time.monotonic() - self._began or 1e-9
            self._figures.streams += 1
        await self._send(message)

    def end(self, function: Function, status: int) -> None:
        """The request is over; a status of 0: its client has left before the response began."""
        figures = self._figures
        figures.in_flight -= 1
        code = f"{status // 100}xx" if status else "none"
        figures.requests[(*function, code)] += 1
        first = self._first
        if first:
            figures.streams -= 1
        elif status:  # a whole response, whose write was the last step
            first = time.monotonic() - self._began
        else:
            return
        figures.first_bytes.setdefault(function, Times()).add(first)


@dataclass(slots=True)
class GatewayFigures:
    """The counts; `requests` by function and class of status, `streams`: responses that have begun and go on."""

    requests: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    first_bytes: dict[Function, Times] = field(default_factory=dict)
    in_flight: int = 0
    streams: int = 0

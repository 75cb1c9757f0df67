"""What tests of several folders share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], *, what: str, seconds: float = 20.0, pause: float = 0.005
) -> T:
    """The predicate's first true value; fails after `seconds` with the sentence `what`.

    `pause` is longer where asking takes the processor from whom it waits for.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline, f"never happened in {seconds} s: {what}"
        time.sleep(pause)

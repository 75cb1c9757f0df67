"""Tables that a worker keeps for as long as it lives: bounded, the oldest entry goes first."""

from __future__ import annotations

from typing import TypeVar

MOST_KEPT = 256
K = TypeVar("K")
V = TypeVar("V")


def keep(kept: dict[K, V], key: K, value: V, *, most: int = MOST_KEPT) -> None:
    """Keep the value, as the newest of at most that many."""
    kept.pop(key, None)
    if len(kept) >= most:
        kept.pop(next(iter(kept)))
    kept[key] = value

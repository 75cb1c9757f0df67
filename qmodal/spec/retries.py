"""How often, and after which delays, an input that failed is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from qmodal.exception import InvalidError
from qmodal.wire.outcome import Outcome

SHORTEST_DELAY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Up to `max_retries` further attempts, with growing delays in seconds; raises InvalidError."""

    max_retries: int
    backoff_coefficient: float = 2.0
    initial_delay: float = 1.0
    max_delay: float = 60.0

    def __post_init__(self) -> None:
        count = self.max_retries
        if type(count) is not int or count < 0:
            raise InvalidError(f"`max_retries` must be an integer of at least 0, not {count!r}")
        _check_between("backoff_coefficient", self.backoff_coefficient, 1, 10)
        _check_between("initial_delay", self.initial_delay, 0, 60)
        _check_between("max_delay", self.max_delay, 1, 60)

    @staticmethod
    def of(retries: int | Retries | None) -> Retries | None:
        """What a decorator's `retries=` means: a plain number waits one second each time."""
        if retries is None or isinstance(retries, Retries):
            return retries
        if type(retries) is not int:
            raise InvalidError(
                "Retries parameter must be an integer or instance of modal.Retries. "
                f"This is a {type(retries).__name__}.",
            )
        return Retries(max_retries=retries, backoff_coefficient=1.0, initial_delay=1.0)

    def delay(self, retry_number: int) -> float:
        """Seconds to wait before retry 1, 2, …; never less than one."""
        try:
            grown = self.initial_delay * float(self.backoff_coefficient) ** (retry_number - 1)
        except OverflowError:
            grown = self.max_delay if self.initial_delay else 0.0
        return max(SHORTEST_DELAY, min(grown, self.max_delay))


def _check_between(name: str, value: object, low: float, high: float) -> None:
    # NaN fails the comparison.
    if type(value) not in {int, float} or not low <= cast(float, value) <= high:
        raise InvalidError(f"`{name}` must be a number between {low} and {high}, not {value!r}")


_RETRIED = frozenset({"error", "timeout"})


def next_step(outcome: Outcome, retries: Retries | None, used: int) -> float | None:
    """Seconds to wait before another attempt, or None if this outcome is the last."""
    if outcome.kind not in _RETRIED or retries is None or used >= retries.max_retries:
        return None
    return retries.delay(used + 1)

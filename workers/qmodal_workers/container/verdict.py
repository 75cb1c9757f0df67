"""What follows an outcome: pure, so that worker and container decide alike."""

from __future__ import annotations

from qmodal.spec.retries import Retries
from qmodal.wire.outcome import Outcome

_RETRIED = frozenset({"error", "timeout"})


def next_step(outcome: Outcome, retries: Retries | None, used: int) -> float | None:
    """Seconds to wait before another attempt, or None if this outcome is the last."""
    if outcome.kind not in _RETRIED or retries is None or used >= retries.max_retries:
        return None
    return retries.delay(used + 1)

"""How far a map is, in figures and as the text beside its bar."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# The rate is that of the last so many seconds, or of the last so many inputs if these took longer.
WINDOW_SECONDS, WINDOW_INPUTS = 15.0, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A map at one moment; `total` None: its end is not known yet. `rate` in inputs a second, `took` in seconds."""

    name: str
    done: int
    total: int | None
    failed: int
    running: int
    rate: float
    took: float
    is_over: bool = False

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at this rate; None if nobody knows."""
        if self.total is None or not self.rate or not self.done:
            return None
        return max(0, self.total - self.done) / self.rate

    @property
    def text(self) -> str:
        """`412/1000, 8 running, 3 failed, 34/s, 0:17 left`; at its end `1000/1000, 3 failed, 34/s, 0:29`."""
        counted = f"{self.done} done" if self.total is None else f"{self.done}/{self.total}"
        running = "" if self.is_over else f"{self.running} running"
        failed = f"{self.failed} failed" if self.failed else ""
        return ", ".join(filter(None, (counted, running, failed, self._rate, self._time)))

    @property
    def _rate(self) -> str:
        if self.rate < 1:
            return f"{self.rate * 60:.0f}/min" if self.rate else ""
        return f"{self.rate:.0f}/s" if self.rate >= 10 else f"{self.rate:.1f}/s"

    @property
    def _time(self) -> str:
        if self.is_over:
            stopped = self.total is None or self.done < self.total
            return f"stopped after {clock(self.took)}" if stopped else clock(self.took)
        return "" if self.left is None else f"{clock(self.left)} left"


def clock(seconds: float) -> str:
    """`0:07`, `12:05` or `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Pace:
    """How many inputs a second are done lately; the first look begins it."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def at(self, moment: float, done: int) -> float:
        """The rate when so many were done at that moment; later moments follow."""
        looks = self._looks
        looks.append((moment, done))
        if len(looks) == 1:
            return 0.0
        while _is_enough(moment - looks[1][0], done - looks[1][1]):
            looks.popleft()
        began, before = looks[0]
        return (done - before) / (moment - began) if moment > began else 0.0


def _is_enough(seconds: float, inputs: int) -> bool:
    return seconds >= WINDOW_SECONDS and inputs >= WINDOW_INPUTS

"""Failures that long-lived loops survive: one item that fails costs that item, and is logged.

What a server or foreign bytes can lead to is an `Error`, and worth a line. Anything else nobody has
thought of, and it comes with its traceback. Both are counted, and said the first time and whenever
the count has doubled: a loop that meets the same thing twenty times a second must not drown the rest.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from qmodal.exception import Error
from qmodal.telemetry.events import FOREIGN_SKIPPED, WORK_DEFECT, WORK_FAILED, emit

# Subjects that are remembered; beyond that, all are counted anew.
MOST_SUBJECTS = 1000
# Kinds of one subject that are counted each for itself: foreign text must not make lines without end.
MOST_KINDS = 20
# Subjects that are new and said within a minute; more come from a flood of foreign names.
MOST_NEW, MINUTE = 200, 60.0
OTHERS = "others"
log = logging.getLogger("qmodal")
_counts: dict[str, Counter[str]] = {}
_new: deque[float] = deque(maxlen=MOST_NEW)


@contextmanager
def survive(activity: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Go on behind the block whatever it raises, except for `but`; `activity` says what was done."""
    try:
        yield
    except but:
        raise
    except Exception as error:
        note(activity, error)
        log.debug("%s failed", activity, exc_info=True)


def note(activity: str, error: BaseException) -> None:
    """Count a failure, and say it if it is time to."""
    times = _times(activity, type(error).__name__)
    if times is None:
        return
    if isinstance(error, Error):
        emit(WORK_FAILED, activity=activity, times=times, reason=str(error))
    else:
        emit(WORK_DEFECT, error, activity=activity, times=times, reason=repr(error))


def skip(where: str, what: str) -> None:
    """Count something foreign that is left out, and say it if it is time to."""
    times = _times(where, what)
    if times is not None:
        emit(FOREIGN_SKIPPED, where=where, times=times, reason=what)


def _times(subject: str, kind: str) -> str | None:
    """How often it was met, for people; None if that is not worth a line."""
    kinds = _counts.get(subject)
    if kinds is None:
        if len(_new) == MOST_NEW and time.monotonic() - _new[0] < MINUTE:
            return None
        _new.append(time.monotonic())
        if len(_counts) >= MOST_SUBJECTS:
            _counts.clear()
        kinds = _counts[subject] = Counter()
    if kind not in kinds and len(kinds) >= MOST_KINDS:
        kind = OTHERS
    kinds[kind] += 1
    count = kinds[kind]
    if count & (count - 1):
        return None
    return "" if count == 1 else f" ({count} times so far)"

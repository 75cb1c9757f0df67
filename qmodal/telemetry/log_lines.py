"""The log of a long-lived process on stderr: lines for people, or an object of JSON on each line."""

from __future__ import annotations

import logging
import time
from typing import Any

from qmodal.telemetry.events import EVENT, FIELDS
from qmodal.telemetry.printable import printable

LINE = "%(asctime)s %(levelname)s %(message)s"


class PlainLines(logging.Formatter):
    """A line for people: one line, whatever is in its fields, and a traceback behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        head = f"{self.formatTime(record)} {record.levelname}"
        line = f"{head} {printable(record.getMessage())}"
        if not record.exc_info:
            return line
        return f"{line}\n{printable(self.formatException(record.exc_info), lines=True)}"


class JsonLines(logging.Formatter):
    """A line has `time` (UTC), `level`, `event` and its fields, and `message` as people read it.

    A record that is no event has `logger` instead; an error's traceback is `traceback`. A field of the
    same name as one of these is left out.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        import json  # who writes lines for people has no use for it

        event = getattr(record, EVENT, None)
        line: dict[str, Any] = {
            "time": json_time(record.created),
            "level": record.levelname.lower(),
        }
        line |= {"logger": record.name} if event is None else {"event": event}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        fields = getattr(record, FIELDS, {})
        return json.dumps({**fields, **line}, default=str)


def json_time(since: float) -> str:
    """A moment, in seconds since 1970, as lines of JSON have it."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
    return f"{seconds}.{int(since % 1 * 1000):03d}Z"


def begin_log(*, as_json: bool = False, level: str = "info") -> None:
    """Log to stderr from now on, what is of this level or above; of other packages no debugging."""
    logging.basicConfig(level=max(logging.INFO, logging.getLevelName(level.upper())), format=LINE)
    logging.getLogger("qmodal").setLevel(level.upper())
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines() if as_json else PlainLines())

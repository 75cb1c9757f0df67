"""The kinds of failed starts, as metrics have them: what a container's last report says of its end."""

from __future__ import annotations

import re

from qmodal_autoscaler.policy.state import FailureKind

# As workers write them. Who says something else is counted as `other`, whatever it is: no text becomes a label.
_SENTENCES: tuple[tuple[FailureKind, re.Pattern[str]], ...] = (
    ("out_of_memory", re.compile(r"its container used .+, above its memory limit")),
    ("out_of_memory", re.compile(r"its container was killed, probably for want of memory")),
    ("timeout", re.compile(r"it was not ready within ")),
    ("signal", re.compile(r"its container was killed by signal \d")),
    ("exit", re.compile(r"its container exited with status \d")),
)
# The line of a traceback that names the exception: unlike code, it is not indented.
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*)(?:: .*)?$", re.MULTILINE)
_IMPORT_ERRORS = ("ImportError", "ModuleNotFoundError")


def failure_kind(detail: str) -> FailureKind:
    """The kind of a failed start, by what the container or its worker has said of it."""
    text = detail.strip()
    for kind, sentence in _SENTENCES:
        if sentence.match(text):
            return kind
    named = _EXCEPTION.findall(text)
    return "import_error" if named and named[-1] in _IMPORT_ERRORS else "other"

"""Which names apps and other objects may have."""

from __future__ import annotations

import re

from qmodal.exception import InvalidError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_APP_ID = re.compile(r"ap-[A-Za-z0-9]{22}")


def is_app_id(name: str) -> bool:
    """Whether it is an app's id rather than its name."""
    return _APP_ID.fullmatch(name) is not None


def check_name(kind: str, name: str) -> None:
    """Raise InvalidError unless the name can be looked up and cannot be taken for an id."""
    if not _NAME.fullmatch(name) or _APP_ID.fullmatch(name):
        raise InvalidError(
            f"Invalid {kind} name: {name!r}. Names may have up to 64 letters, digits, dashes, "
            "underscores and periods, and may not look like an app id."
        )

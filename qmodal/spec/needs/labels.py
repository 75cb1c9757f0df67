"""Labels of boxes: words, and pairs such as "zone=a"."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qmodal.exception import InvalidError

_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,62}[A-Za-z0-9])?")


def check_label(text: str) -> str:
    """The label; raises InvalidError for one that `region=` could not name."""
    key, has_value, value = text.partition("=")
    if _WORD.fullmatch(key) and (_WORD.fullmatch(value) or not has_value):
        return text
    raise InvalidError(
        f'a label is a word, as "fast", or a pair, as "zone=a", of letters, digits and ". _ / -" between them; '
        f"not {text!r}"
    )


def region_of(labels: Iterable[str]) -> str:
    """The region that a box is in, by its label "region=..."; empty without one."""
    regions = (label.partition("=")[2] for label in labels if label.partition("=")[0] == "region")
    return next(regions, "")

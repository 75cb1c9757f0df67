"""How somebody else's sentence becomes a part of one of ours."""

from __future__ import annotations


def clause(text: object) -> str:
    """A text such as an error's without its full stop, so that the sentence can go on behind it."""
    return str(text).strip().rstrip(".")

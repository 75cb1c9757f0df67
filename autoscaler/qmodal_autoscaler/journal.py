"""What the autoscaler tells people: one line for each change, and no line twice in a row."""

from __future__ import annotations

import logging
from collections.abc import Collection

log = logging.getLogger("qmodal.autoscaler")


class Journal:
    """Remembers what was said last about each subject."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def change(self, label: str, text: str) -> None:
        """Something was changed, for this reason."""
        log.info("%s: %s", label, text)

    def trouble(self, subject: str, text: str, *, label: str = "") -> None:
        """Something cannot be known or done; said once, until it changes or is over."""
        if self._said.get(subject) != text:
            self._said[subject] = text
            log.warning("%s: %s", label or subject, text)

    def settle(self, subject: str) -> None:
        """There is no trouble with it any more."""
        self._said.pop(subject, None)

    def keep(self, subjects: Collection[str]) -> None:
        """Forget the subjects that are gone."""
        for gone in self._said.keys() - set(subjects):
            del self._said[gone]

"""What the autoscaler tells people: one line for each change, and no line twice in a row."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from qmodal.exception import Error
from qmodal.transport.defects import note
from qmodal.wire.ids import is_pool_id

log = logging.getLogger("qmodal.autoscaler")


class ChangeLog:
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

    def failed(self, subject: str, what: str, error: BaseException, *, label: str = "") -> None:
        """Something failed: a trouble if that can be foreseen, else a mistake of ours, with its traceback."""
        if isinstance(error, Error):
            self.trouble(subject, f"{what}: {error!r}", label=label)
        else:
            note(f"{label or subject}: {what}", error)

    @contextmanager
    def surviving(
        self,
        subject: str,
        what: str,
        *,
        label: str = "",
        but: tuple[type[Exception], ...] = (),
        settles: bool = False,
    ) -> Iterator[None]:
        """Go on behind the block whatever it raises, except for `but`, and say that `what` follows of it.

        `settles`: if it raises nothing, the trouble with the subject is over.
        """
        try:
            yield
        except but:
            raise
        except Exception as error:
            self.failed(subject, what, error, label=label)
            log.debug("%s: %s", label or subject, what, exc_info=True)
        else:
            if settles:
                self.settle(subject)

    def settle(self, subject: str) -> None:
        """There is no trouble with it any more."""
        self._said.pop(subject, None)

    def keep(self, pools: Collection[str]) -> None:
        """Forget the pools that are gone; other subjects are settled by whoever has trouble with them."""
        for subject in self._said.keys() - set(pools):
            if is_pool_id(subject):
                del self._said[subject]

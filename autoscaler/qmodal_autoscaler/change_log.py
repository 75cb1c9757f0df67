"""The autoscaler's log: one line for each change, and no trouble twice in a row."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from qmodal.exception import Error
from qmodal.telemetry.events import SCALING_CHANGED, SCALING_TROUBLE, emit
from qmodal.transport.defects import note
from qmodal.wire.ids import is_pool_id

log = logging.getLogger("qmodal.autoscaler")


class ChangeLog:
    """Logs changes and troubles; remembers the last trouble of each subject."""

    def __init__(self) -> None:
        self._troubles: dict[str, str] = {}

    def change(self, label: str, text: str, *, subject: str = "") -> None:
        """Log a change and its reason."""
        emit(SCALING_CHANGED, label=label, reason=text, subject=subject or label)

    def trouble(self, subject: str, text: str, *, label: str = "") -> None:
        """Log that something cannot be known or done; once, until that changes or is over."""
        if self._troubles.get(subject) != text:
            self._troubles[subject] = text
            emit(SCALING_TROUBLE, label=label or subject, reason=text, subject=subject)

    def failed(self, subject: str, what: str, error: BaseException, *, label: str = "") -> None:
        """Log a failure: an `Error` as a trouble, anything else as a defect, counted and with its traceback."""
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
        """Go on after the block whatever it raises, except for `but`, and log that `what` follows from it.

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
        """Note that the trouble with the subject is over."""
        self._troubles.pop(subject, None)

    def keep(self, pools: Collection[str]) -> None:
        """Forget the troubles of pools that are gone; those of other subjects stay until they are settled."""
        for subject in self._troubles.keys() - set(pools):
            if is_pool_id(subject):
                del self._troubles[subject]

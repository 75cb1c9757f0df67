"""Notes the inputs of a container that have failed, so that people find them by their function."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.entries import Claimed
from qmodal.store.results.failures import Failure
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import Outcome, told

# Each note is a round trip. A function that fails all the time has so many a second noted, and the most
# at once: half a percent of its container's time.
NOTES_PER_SECOND, MOST_AT_ONCE = 20.0, 50.0


@dataclass(slots=True)
class FailureNotes:
    """Writes notes for one container; by whichever thread settles.

    None is worth an outcome: where the server does not answer in time the note is left out.
    `unrepeatable`: methods whose callers had to do more than to wait, so people cannot run their inputs again.
    """

    client: Client
    pool: str
    app: str
    function: str
    container: str
    unrepeatable: frozenset[str] = frozenset()
    _left: float = MOST_AT_ONCE
    _counted: float = field(default_factory=time.monotonic)

    def note(self, claimed: Claimed, envelope: Envelope, index: int, outcome: Outcome) -> bool:
        """This input gets no other attempt, and its outcome is no value. One that was cancelled has not failed.

        Returns whether people can run it again by its note.
        """
        if outcome.kind == "cancelled":
            return False
        now = time.monotonic()
        self._left = min(MOST_AT_ONCE, self._left + (now - self._counted) * NOTES_PER_SECOND)
        self._counted = now
        if self._left < 1:
            return False
        self._left -= 1
        reason, trace = told(outcome.kind, outcome.payload)
        head = envelope.head
        failure = Failure(
            app=self.app,
            function=self.function,
            pool=self.pool,
            call=head.call,
            index=index,
            method=head.method,
            kind=outcome.kind,
            reason=reason,
            trace=trace,
            container=self.container,
            created=head.created,
            started=outcome.started,
            took=outcome.took,
            retries=claimed.retries,
            lost=claimed.lost,
            envelope=claimed.envelope,
        )
        try:
            self.client.run(self.client.failures.note(failure))
        except Error:
            self._left = 0.0  # the server has other troubles
            return False
        return head.method not in self.unrepeatable

"""Attempts for tests: entries as if they were claimed, with the envelopes that they have."""

from __future__ import annotations

from typing import Any

from qmodal.store.entries import Claimed
from qmodal_workers.container.run.attempt import Attempt
from tests.support.store.envelopes import envelope_of


def attempt(number: int, **envelope: Any) -> Attempt:
    """The attempt of an entry `<number>-0`; `envelope`: fields of that."""
    return attempt_of(Claimed(1, f"{number}-0", ()), **envelope)


def attempt_of(claimed: Claimed, **envelope: Any) -> Attempt:
    """The attempt of what was claimed."""
    made = envelope_of(**envelope)
    return Attempt(claimed, made, made.payload)

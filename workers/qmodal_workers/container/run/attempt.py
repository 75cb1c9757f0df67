"""An attempt: one delivery of an entry, from its admission to its outcome."""

from __future__ import annotations

from typing import NamedTuple

from qmodal.store.entries import Claimed
from qmodal.wire.envelope import Envelope


class Attempt(NamedTuple):
    """A claimed entry whose envelope was verified, with the bytes of its arguments.

    `payload` is the envelope's own, or was stored in a key of its own.
    """

    claimed: Claimed
    envelope: Envelope
    payload: bytes

"""Envelopes for tests: a valid one, but for what a test says."""

from __future__ import annotations

from typing import Any

from qmodal.wire.envelope import PYTHON, Envelope, Head


def envelope_of(**fields: Any) -> Envelope:
    """An input's envelope, or that of a pack; the fields of its head are among its own."""
    head = Head(pool="pool", call="fc-00x", method="", created=1, deadline=None, python=PYTHON)
    made = Envelope(head, first=0, size=1, format="m", payload=b"", blob=None)
    return changed(made, **fields)


def changed(envelope: Envelope, **fields: Any) -> Envelope:
    """The envelope with other values of these fields."""
    common = {name: value for name, value in fields.items() if name in Head._fields}
    own = {name: value for name, value in fields.items() if name not in common}
    return envelope._replace(head=envelope.head._replace(**common), **own)

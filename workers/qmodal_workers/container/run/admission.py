"""Decides whether a claimed entry may run: signature first, then shape, then its payload."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qmodal.client.client import Client
from qmodal.exception import (
    DeserializationError,
    Error,
    RequestSizeError,
    ResourceExhaustedError,
    clause,
)
from qmodal.store.entries import FRESH_FIELDS, Claimed
from qmodal.transport.operation import Exchange, Op, ask_one
from qmodal.wire.envelope import PYTHON, Envelope, Head, MalformedError, open_envelope
from qmodal.wire.outcome import Outcome, text_outcome
from qmodal.wire.plain import unpack_columns
from qmodal.wire.signing import BadSignatureError, UnknownKeyError, digest_of, key_id_of
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.until_ready import insist

Arguments = tuple[dict[str, Any], list[list[Any]]]


# Without the generated constructor, which takes three times as long.
_new = tuple.__new__


class _Foreseen(NamedTuple):
    """A pack that was checked before its turn."""

    attempt: Attempt
    arguments: Arguments


class RefusedError(Error):
    """Raised for an entry that cannot be processed; it is set aside with this reason."""


class UndecodableError(RefusedError):
    """Raised for an entry that another box may decode, with this `python` or (if empty) another qmodal."""

    def __init__(self, text: str, *, python: str = "") -> None:
        super().__init__(text)
        self.python = python


@dataclass(slots=True)
class Admission:
    """Checks entries for one pool; `before_large` is called before a payload is fetched."""

    client: Client
    pool: str
    before_large: Callable[[], None] = lambda: None
    # The last envelope's head, and its call id as bytes, as entries have it.
    _known: tuple[Head | None, bytes] = field(default=(None, b""), init=False)
    _foreseen: _Foreseen | None = field(default=None, init=False)

    def foresee(self, claimed: Claimed) -> None:
        """By the release thread: check a pack before its turn; errors are left for `admit` to raise."""
        if claimed.is_shaped and claimed.size > 1:
            with suppress(Error):
                envelope = self._opened(claimed)
                if envelope.blob is None:
                    attempt = Attempt(claimed, envelope, envelope.payload)
                    self._foreseen = _Foreseen(attempt, self._arguments(attempt))

    def admit(self, claimed: Claimed) -> Attempt:
        """The entry as an attempt; raises RefusedError (UndecodableError: other boxes may run it).

        Raises UnknownKeyError for a key that this container does not have, and another one may.
        """
        foreseen = self._foreseen
        if foreseen is not None and foreseen.attempt.claimed is claimed:
            return foreseen.attempt
        envelope = self._opened(claimed)
        if envelope.blob is None:
            return _new(Attempt, (claimed, envelope, envelope.payload))
        self.before_large()
        return Attempt(claimed, envelope, self._stored(envelope))

    def admit_fresh(self, claimed: Claimed) -> Attempt | None:
        """As `admit`, without waiting for anything; None if that needs a wait, or is not of the usual kind.

        Usual is one input that was never given back, whose arguments are in the entry.
        """
        if len(claimed.fields) != FRESH_FIELDS or not claimed.is_shaped:
            return None
        try:
            envelope = open_envelope(claimed.fields[1], self.client.signer)
            if envelope.blob is not None:
                return None
            self._check(claimed, envelope)
        except Error:
            return None
        return _new(Attempt, (claimed, envelope, envelope.payload))

    def _opened(self, claimed: Claimed) -> Envelope:
        if not claimed.is_shaped:
            raise RefusedError("unprocessable: the entry was not written by qmodal")
        signed = claimed.fields[1]
        try:
            envelope = open_envelope(signed, self.client.signer)
        except (BadSignatureError, UnknownKeyError, MalformedError) as error:
            raise self._refusal(error, signed) from error
        self._check(claimed, envelope)
        return envelope

    def _check(self, claimed: Claimed, envelope: Envelope) -> None:
        """Raise RefusedError unless the envelope is that of the entry, and of this pool and Python."""
        head = envelope.head
        known, call = self._known
        if head is not known:
            call = head.call.encode()
            self._known = head, call
        if claimed.fields[3] != call or head.pool != self.pool:
            raise RefusedError("unprocessable: the envelope belongs to another call or pool")
        first, size = claimed.first, claimed.size
        if not envelope.first <= first < first + size <= envelope.first + envelope.size:
            raise RefusedError("unprocessable: the envelope belongs to another input of its call")
        if envelope.format == "c" and head.python != PYTHON:
            raise UndecodableError(
                f"unprocessable: the arguments carry code of Python {head.python}, and this "
                f"worker runs Python {PYTHON}; use the same minor version on both sides",
                python=head.python,
            )

    def arguments(self, attempt: Attempt) -> Arguments:
        """The arguments of those inputs of a pack for which the entry stands; may raise RefusedError."""
        foreseen = self._foreseen
        if foreseen is not None and foreseen.attempt is attempt:
            self._foreseen = None
            return foreseen.arguments
        return self._arguments(attempt)

    def _arguments(self, attempt: Attempt) -> Arguments:
        claimed, envelope, payload = attempt
        try:
            found = unpack_columns(payload) if envelope.format == "m" else None
        except DeserializationError as error:
            raise RefusedError(f"unprocessable: {error}") from error
        if found is None or not _is_pack(found, envelope.size):
            raise RefusedError("unprocessable: the pack does not hold what it says")
        kwargs, columns = found
        if claimed.size < envelope.size:
            first = claimed.first - envelope.first
            columns = [each[first : first + claimed.size] for each in columns]
        return kwargs, columns

    def _refusal(self, error: Error, signed: bytes) -> Error:
        """The error to raise for an envelope that could not be opened."""
        if isinstance(error, MalformedError):  # and yet signed with our key
            return UndecodableError(f"unprocessable: {error}")
        if not isinstance(error, UnknownKeyError):
            return RefusedError(f"unprocessable: {error}")
        if not self._is_foreign_key(signed):
            return UnknownKeyError(str(error))
        return RefusedError(
            f"unprocessable: {clause(error)}, and this Redis does not accept that key; give the "
            "caller the QMODAL_SIGNING_KEY of the other processes"
        )

    def _is_foreign_key(self, signed: bytes) -> bool:
        """Whether the server accepts our key, and not the one that has signed this.

        If it were given back, the entry would stop one container after another and let nothing else
        through; an entry with an accepted key has a container elsewhere that can run it.
        """
        signer, keys = self.client.signer, self.client.keys
        ours, theirs = insist(
            self.client,
            lambda: ask_one(b"HMGET", keys.signing, signer.key_id.hex(), key_id_of(signed).hex()),
        )
        return theirs is None and ours == signer.fingerprint.encode()

    def _stored(self, envelope: Envelope) -> bytes:
        """The payload that has a key of its own, checked against its digest; raises RefusedError."""
        calls = self.client.calls
        stored = insist(self.client, lambda: calls.input_blob(envelope.call, envelope.first))
        if stored is None:
            raise RefusedError("unprocessable: the stored arguments are gone")
        if digest_of(stored) != envelope.blob:
            raise RefusedError("unprocessable: the stored arguments were changed")
        return stored

    def store_result(self, call: str, index: int, outcome: Outcome) -> Outcome:
        """The outcome with its payload in a key of its own; an `unstored` one if the server has no room."""
        key = self.client.keys.result_blob(call, index)
        lifetime = int(self.client.settings.result_ttl * 1000)
        digests: list[bytes] = []
        store = Exchange(
            ((b"SET", key, outcome.payload, b"PX", lifetime),),
            meanwhile=lambda: digests.append(digest_of(outcome.payload)),
        )
        try:
            insist(self.client, lambda: _sent(store), lasting=ResourceExhaustedError)
        except (ResourceExhaustedError, RequestSizeError) as error:
            size = len(outcome.payload)
            text = f"the result of {size} bytes could not be stored: {error}"
            return text_outcome("unstored", text)
        return outcome._replace(payload=b"", blob=digests[-1])


def _sent(exchange: Exchange) -> Op[None]:
    yield exchange


def _is_pack(found: Any, count: int) -> bool:
    """Whether it is a pack of `count` inputs: keyword arguments for all, and a list for each positional one."""
    if type(found) is not list or len(found) != 2:
        return False
    kwargs, columns = found
    if type(kwargs) is not dict or type(columns) is not list or set(map(type, columns)) != {list}:
        return False
    return set(map(len, columns)) == {count} and all(type(name) is str for name in kwargs)

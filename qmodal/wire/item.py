"""An item of a generator as a value, and as the signed bytes in its call's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType

import msgpack

from qmodal.wire.envelope import SHAPE, MalformedError, kinds, unpack_fields
from qmodal.wire.signing import Signer

KIND = "item"
_KINDS = kinds(str, int, bytes, str, int, str, str, bytes, (bytes, NoneType))


@dataclass(frozen=True, slots=True)
class Item:
    """The item of that number, from 0; `attempt` is the id of the entry that it was made for."""

    number: int
    attempt: str
    format: str
    payload: bytes
    blob: bytes | None = None  # digest of a payload that is stored apart

    def seal(self, signer: Signer, *, call: str, index: int, request: bytes) -> bytes:
        """The signed bytes, bound to its place in the results of exactly that request."""
        body: bytes = msgpack.packb(
            (
                SHAPE,
                call,
                index,
                request,
                KIND,
                self.number,
                self.attempt,
                self.format,
                self.payload,
                self.blob,
            )
        )
        return signer.sign("result", body)


def open_item(data: bytes, signer: Signer, *, call: str, index: int, request: bytes) -> Item:
    """Verify, decode and check whose it is; raises as `open_envelope`."""
    fields = unpack_fields(signer.verify("result", data), _KINDS)
    of_call, of_index, of_request, kind, *rest = fields
    if (of_call, of_index, of_request, kind) != (call, index, request, KIND):
        raise MalformedError("the item belongs to another input")
    return Item(*rest)

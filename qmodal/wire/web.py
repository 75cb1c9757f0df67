"""HTTP requests, their responses, and the messages of what streams between a gateway and a container, as bytes.

All of it is plain msgpack. A request is the only argument of an input, a response that is small and whole is its
result. What does not fit there goes as messages through signed inboxes, one of the gateway and one of the container.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, Literal, NamedTuple

import msgpack

from qmodal.exception import Error
from qmodal.wire.envelope import SHAPE, MalformedError, kinds, unpack_fields
from qmodal.wire.signing import Signer

Header = tuple[bytes, bytes]
Address = tuple[str, int]
# How a container is asked to answer a request.
Protocol = Literal["http", "websocket"]
# What a request or a response may carry itself; a larger body is streamed.
WHOLE_BYTES = 256 * 1024
# A message carries no more of a body, and a message of a websocket is no larger.
PART_BYTES = 128 * 1024
MOST_WEBSOCKET_BYTES = 2 * 1024 * 1024
# What a message takes beside its data.
MESSAGE_BYTES = 512
# Kinds of messages. From a container: `open`: its inbox's name, first of all it sends for a request; `start`: status and
# headers; `accept`: subprotocol and headers of a websocket. From either side: `body`; `end`: no more of the body; `text`
# and `bytes`: of a websocket; `close`: its code and reason; `credit`: so many more bytes may be sent.
# From a gateway: `gone`: the client has left.
MessageKind = Literal[
    "open", "start", "accept", "body", "end", "text", "bytes", "close", "credit", "gone"
]
_REQUEST_KINDS = kinds(
    str,
    str,
    str,
    str,
    bytes,
    bytes,
    str,
    list,
    (list, NoneType),
    (list, NoneType),
    str,
    bytes,
    bool,
)
_RESPONSE_KINDS = kinds(int, list, bytes)
_MESSAGE_KINDS = kinds(str, str, str, int, str, (bytes, str, int, list, NoneType))
_new = tuple.__new__


class Request(NamedTuple):
    """An HTTP request as a container gets it; with `has_more`, the rest of its body comes as messages.

    Header names are in lower case. `inbox` is that of the gateway.
    """

    protocol: Protocol
    method: str
    scheme: str
    http_version: str
    raw_path: bytes  # behind `root_path`, percent-encoded, as the client wrote it
    query: bytes
    root_path: str
    headers: list[Header]
    client: Address | None
    server: Address | None
    inbox: str
    body: bytes = b""
    has_more: bool = False

    def pack(self) -> bytes:
        """Its bytes."""
        packed: bytes = msgpack.packb((SHAPE, *self))
        return packed


def unpack_request(packed: bytes) -> Request:
    """The request of `pack`'s bytes; raises MalformedError."""
    request: Request = _new(Request, unpack_fields(packed, _REQUEST_KINDS))
    return request


class Response(NamedTuple):
    """A response that is whole; one with status 0 went through the gateway's inbox."""

    status: int
    headers: list[Header]
    body: bytes

    def pack(self) -> bytes:
        """Its bytes."""
        packed: bytes = msgpack.packb((SHAPE, *self))
        return packed


STREAMED = Response(0, [], b"")


def unpack_response(packed: bytes) -> Response:
    """The response of `pack`'s bytes; raises MalformedError."""
    response: Response = _new(Response, unpack_fields(packed, _RESPONSE_KINDS))
    return response


class Message(NamedTuple):
    """One message of a request's stream.

    `stream` is the request's call id. `origin` tells the attempts of it apart; a gateway repeats that of the
    attempt it answers. `number` counts the messages of a direction and an origin from 0.
    """

    stream: str
    origin: str
    number: int
    kind: MessageKind
    data: Any = None

    @property
    def cost(self) -> int:
        """Bytes of memory that it takes on the server, about."""
        size = len(self.data) if isinstance(self.data, bytes | str) else 0
        return size + MESSAGE_BYTES

    def seal(self, signer: Signer, inbox: str) -> bytes:
        """The signed bytes, good in that inbox only."""
        return signer.sign_large(msgpack.packb((SHAPE, inbox, *self)))


def open_message(data: bytes, signer: Signer, inbox: str) -> Message:
    """Verify, then decode; raises BadSignatureError, UnknownKeyError or MalformedError."""
    of_inbox, *fields = unpack_fields(signer.verify_large(data), _MESSAGE_KINDS)
    if of_inbox != inbox:
        raise MalformedError("the message belongs to another inbox")
    message: Message = _new(Message, fields)
    return message


class BrokenStreamError(Error):
    """The other side of a stream is gone, or messages of it are missing."""

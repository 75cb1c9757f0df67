"""Responses: those that a gateway makes itself, and the check of those that user code has made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response as Made

from qmodal.exception import Error
from qmodal.telemetry.printable import printable
from qmodal.wire.web import Header, Response

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Tabs are allowed in a value, and so is what is not ASCII.
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# What belongs to a connection, not to a response, and what the gateway sets itself.
_NOT_PASSED_ON = frozenset(
    [
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"),
        *(b"transfer-encoding", b"proxy-authenticate", b"proxy-authorization"),
        *(b"date", b"x-request-id"),
    ]
)
# Responses of these statuses have no body, and no length.
BODILESS = frozenset({204, 304})
_MOST_NAMES = 2000
_known_names: dict[bytes, bytes] = {}
RETRY = (b"retry-after", b"1")
CLOSE = (b"connection", b"close")


class RefusedError(Error):
    """The gateway answers the request itself, with `response`; `closes`: and ends the connection."""

    def __init__(self, response: Response, *, closes: bool = False) -> None:
        super().__init__(f"answered with {response.status}")
        self.response = response
        self.closes = closes


class BadResponseError(Error):
    """What user code has answered cannot be sent to anybody."""


def plain(status: int, text: str, *headers: Header) -> Response:
    """A response of lines of text."""
    return _made(PlainTextResponse(f"{printable(text, lines=True)}\n", status), *headers)


def as_json(status: int, content: object) -> Response:
    """A response of JSON."""
    return _made(JSONResponse(content, status))


def _made(made: Made, *headers: Header) -> Response:
    """What Starlette has made, with further headers."""
    return Response(made.status_code, [*made.raw_headers, *headers], bytes(made.body))


def raw(response: Response, phrase: str) -> bytes:
    """The bytes of a response that ends its connection, where no request is answered as usual."""
    lines = b"".join(b"%s: %s\r\n" % header for header in (*response.headers, CLOSE))
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (response.status, phrase.encode(), lines, response.body)


def refusal(status: int, text: str, *headers: Header, closes: bool = False) -> RefusedError:
    """What to raise to answer with one line of text."""
    return RefusedError(plain(status, text, *headers), closes=closes)


def unavailable(text: str = "The server is not available now; try again.") -> Response:
    """A response to what may succeed a little later."""
    return plain(503, text, RETRY)


def checked_status(status: object) -> int:
    """The status, if a response can have it; raises BadResponseError."""
    # 1xx is no response: whoever got it would wait for one.
    if type(status) is not int or not 200 <= status <= 599:
        raise BadResponseError(f"a response cannot have the status {status!r}")
    return status


def checked_headers(headers: Iterable[Any]) -> list[Header]:
    """The headers that may be sent, names in lower case; raises BadResponseError for one that cannot.

    A line break in a value would begin a header, or a response, of the user's choice.
    """
    found: list[Header] = []
    length: bytes | None = None
    try:
        for given, value in headers:
            name = _known_names.get(given) or _checked_name(given)
            if _BAD_VALUE.search(value) is not None:
                raise BadResponseError(
                    f"the value of the header {name!r} has a line break or the like"
                )
            if name == b"content-length":
                length = _checked_length(value, length)
            elif name not in _NOT_PASSED_ON:
                found.append((name, value))
    except (TypeError, ValueError) as error:
        raise BadResponseError(f"the headers are no pairs of bytes: {error}") from error
    if length is not None:
        found.append((b"content-length", length))
    return found


def length_of(headers: Iterable[Header]) -> int | None:
    """The content-length among checked headers."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None


def without_length(headers: Iterable[Header]) -> list[Header]:
    """The headers but for the content-length."""
    return [header for header in headers if header[0] != b"content-length"]


def is_token(given: object) -> bool:
    """Whether that is a text that can stand in a header between commas."""
    return type(given) is str and given.isascii() and _NAME.fullmatch(given.encode()) is not None


def _checked_name(given: object) -> bytes:
    if type(given) is not bytes or _NAME.fullmatch(given) is None:
        raise BadResponseError(f"a header cannot be called {given!r}")
    name = given.lower()
    if len(_known_names) < _MOST_NAMES:
        _known_names[given] = name
    return name


def _checked_length(value: bytes, before: bytes | None) -> bytes:
    if not value.isdigit() or len(value) > 18 or before not in (None, value):
        raise BadResponseError(f"the content-length {value!r} is none, or there are several")
    return value

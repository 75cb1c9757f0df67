"""Responses of user code: what may be sent of them."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.services.gateway.exchange.responses import (
    BadResponseError,
    checked_headers,
    checked_status,
)


def test_headers_are_passed_on_in_their_order_but_for_those_of_the_connection() -> None:
    given = [
        (b"Set-Cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"Transfer-Encoding", b"gzip"),
        (b"Connection", b"close"),
        (b"X-Text", b"a\tb \xe4"),
        (b"Content-Length", b"3"),
        (b"content-length", b"3"),
    ]
    assert checked_headers(given) == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"x-text", b"a\tb \xe4"),
        (b"content-length", b"3"),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-a", b"1\r\nx-b: 2")],
        [(b"x-a", b"1\n")],
        [(b"x-a", b"1\0")],
        [(b"x-a: 1\r\nx-b", b"2")],
        [(b"", b"1")],
        [(b"x a", b"1")],
        [("x-a", b"1")],
        [(b"x-a", "1")],
        [(b"x-a",)],
        [b"x-a"],
        7,
        [(b"content-length", b"-1")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"content-length", b"9" * 100)],
    ],
)
def test_headers_that_would_begin_something_else_are_refused(headers: Any) -> None:
    with pytest.raises(BadResponseError):
        checked_headers(headers)


@pytest.mark.parametrize(
    "status", [0, 99, 100, 101, 199, 600, 1000, -200, "200", 200.0, True, None]
)
def test_what_is_no_status_of_a_response_is_refused(status: object) -> None:
    with pytest.raises(BadResponseError):
        checked_status(status)


def test_every_other_status_is_passed_on() -> None:
    assert [checked_status(status) for status in (200, 204, 299, 304, 418, 599)]

"""Where plain URLs lead: row by row, and exactly as redis-py reads them."""

from __future__ import annotations

from typing import Any

import pytest
from redis.connection import UnixDomainSocketConnection, parse_url

from qmodal.transport.connection import Address
from qmodal.transport.sockets.endpoint import Endpoint, plain_endpoint

PLAIN = [
    "redis://h",
    "redis://",
    "redis:///3",
    "redis://H.Example:1/2",
    "redis://h:1/2",
    "redis://h:0",
    "redis://h:/5",
    "redis://h/02",
    "redis://h/%31",
    "redis://h/1/2",
    "redis://h/some/path",
    "redis://h/-1",
    "redis://h/1_0",
    "redis://h/2?db=3",
    "redis://h/2?db=",
    "redis://h?db=0",
    "redis://h?db=%201",
    "redis://h?db=3&db=4",
    "redis://h/1;x",
    "redis://h/1#5",
    "redis://h#?db=5",
    "redis://[::1]:2",
    "redis://[fe80::1%25eth0]:2/1",
    "redis://a%2Eb:7",
    "redis://:p%40ss@h",
    "redis://:p@h@i",
    "redis://u:p:q@h",
    "redis://u:p@h",
    "redis://u@h",
    "redis://@h",
    "redis://:@h",
    "redis://%75ser:%C3%A9@h",
    "redis://:%25p@h",
    "redis://:p+q@h",
    "redis://h?username=u&password=p",
    "redis://h?password=p%2540ss",
    "redis://h?password=p+q",
    "redis://h?username=u&password=",
    "redis://u:p@h?password=q&username=v",
    "redis://:p@h?username=v",
    "redis://h?client_name=me",
    "redis://h?client_name=me%20too",
    "redis://h?&&db=1&",
    "redis://h?db",
    "redis://h ",
    "unix://",
    "unix:///s",
    "unix://relative/s",
    "unix:///a%20b/s?db=4",
    "unix:///a/s?db=4&client_name=c",
    "unix://u:p@/s",
    "unix://:p@/s/3",
    "unix://h:port/s",
    "unix:///s;x#y",
]
OF_REDIS_PY = [
    "rediss://h",
    "redis://h?ssl_cert_reqs=none",
    "redis://h?socket_timeout=3",
    "redis://h?timeout=3&db=1",
    "redis://h?host=i",
    "redis://h?DB=1",
    "unix://?path=/s",
    "redis://h?db=one",
    "redis://h?db=1.5",
    "redis://h:port",
    "redis://h:65536",
    "redis://h:-1",
    "redis://[::1",
    "redis://h?dbb=1",
    "REDIS://h",
    "redis:h",
    "http://h",
    " redis://h",
    "",
]
DEFAULTS = {"username": "", "password": "", "db": 0, "client_name": ""}


def as_redis_py_reads(url: str) -> Endpoint:
    found: dict[str, Any] = dict(parse_url(url))
    if found.pop("connection_class", None) is UnixDomainSocketConnection:
        found = {"path": "", **found}
    return Endpoint(**{**DEFAULTS, **found})


@pytest.mark.parametrize("url", PLAIN)
def test_a_plain_url_leads_where_redis_py_would_go(url: str) -> None:
    assert plain_endpoint(url) == as_redis_py_reads(url)


@pytest.mark.parametrize("url", OF_REDIS_PY)
def test_every_other_url_is_left_to_redis_py(url: str) -> None:
    assert plain_endpoint(url) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", {"host": "h", "port": 1, "db": 2}),
        ("redis://u:p%40ss@h", {"host": "h", "username": "u", "password": "p@ss"}),
        ("redis://u:p@h?password=q", {"host": "h", "username": "u", "password": "p"}),
        ("unix:///a%20b/s?db=4&client_name=me", {"path": "/a b/s", "db": 4, "client_name": "me"}),
    ],
)
def test_a_plain_url_leads_to(url: str, expected: dict[str, Any]) -> None:
    assert plain_endpoint(url) == Endpoint(**expected)


def test_a_password_is_not_in_what_is_printed() -> None:
    url = "redis://u:secret@h?client_name=me"
    assert "secret" not in repr(Address(url)) + repr(plain_endpoint(url))


@pytest.mark.parametrize(
    ("url", "commands"),
    [
        ("redis://h", []),
        ("redis://:p@h/0", [(b"AUTH", b"p")]),
        ("redis://u:p@h/1", [(b"AUTH", b"u", b"p"), (b"SELECT", b"1")]),
        ("redis://u@h", [(b"AUTH", b"u", b"")]),
        ("redis://h?client_name=me", [(b"CLIENT", b"SETNAME", b"me")]),
    ],
)
def test_what_is_sent_first_logs_in(url: str, commands: list[tuple[bytes, ...]]) -> None:
    found = plain_endpoint(url)
    assert found is not None
    assert found.login() == commands

"""Heads of requests: what a gateway reads, believes, refuses and passes on."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.exception import ConfigurationError
from qmodal.services.gateway.exchange.responses import RefusedError
from qmodal.services.gateway.head import Head, Proxies, read_head
from qmodal.services.gateway.options import GatewayOptions, networks

NOBODY = Proxies(())
LOCAL = Proxies(networks("127.0.0.1, 10.0.0.0/8,::1", "here"))


def head_of(
    *headers: tuple[bytes, bytes], proxies: Proxies = NOBODY, client: str = "127.0.0.1", **more: Any
) -> Head:
    """The head of a request with these headers."""
    scope = {
        "client": (client, 4711),
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(b"host", b"Shop.Example.com"), *headers],
        **more,
    }
    return read_head(scope, proxies)


def test_ids_of_requests_are_kept_if_they_are_plain_and_else_made() -> None:
    assert head_of((b"x-request-id", b"a-1.B_2")).request_id == b"a-1.B_2"
    made = {head_of((b"x-request-id", wrong)).request_id for wrong in (b"", b"a b", b"x" * 129)}
    assert len(made) == 3


def test_hosts_are_lower_case_and_nothing_but_hosts() -> None:
    assert head_of().host == b"shop.example.com"
    for wrong in (b"a/b", b"a b", b"a@b", b"[::1", b"a:b", b"a\xe4"):
        with pytest.raises(RefusedError) as refused:
            head_of(headers=[(b"host", wrong)])
        assert refused.value.response.status == 400
    assert head_of(headers=[(b"host", b"[::1]:80")]).host == b"[::1]:80"
    assert head_of(headers=[], http_version="1.0").host == b""


def test_headers_that_the_connection_names_are_dropped_unless_others_need_them() -> None:
    head = head_of((b"connection", b"X-One , keep-alive,host"), (b"x-one", b"1"), (b"x-two", b"2"))
    assert [name for name, _ in head.headers] == [b"host", b"x-two", b"x-request-id"]


def test_only_a_trusted_proxy_is_believed() -> None:
    told = (
        (b"x-forwarded-for", b"1.1.1.1, 2.2.2.2"),
        (b"x-forwarded-for", b"10.9.9.9"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"other.example"),
    )
    head = head_of(*told, proxies=LOCAL)
    assert (head.client, head.scheme, head.host) == (("2.2.2.2", 0), "https", b"other.example")
    for head in (head_of(*told), head_of(*told, proxies=LOCAL, client="192.0.2.1")):
        assert (head.scheme, head.host) == ("http", b"shop.example.com")
        assert head.client is not None
        assert head.client[1] == 4711
        assert not [name for name, _ in head.headers if name.startswith(b"x-forwarded")]
    assert head_of(told[2], proxies=LOCAL, scheme="ws").scheme == "wss"
    assert head_of((b"x-forwarded-proto", b"gopher"), proxies=LOCAL).scheme == "http"


def test_options_come_from_the_environment_and_wrong_ones_are_named() -> None:
    environ = {
        "QMODAL_WEB_MAX_BODY": "1000",
        "QMODAL_WEB_QUEUE": "5",
        "QMODAL_WEB_TRUSTED_PROXIES": "10.1.2.3/8,::1",
        "QMODAL_WEB_ACCESS_LOG": "on",
    }
    options = GatewayOptions.from_environ(environ)
    assert (options.max_body, options.queue, options.access_log) == (1000, 5, True)
    assert [str(each) for each in options.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert GatewayOptions.from_environ({}).trusted_proxies == ()
    changed = options.changed(trusted_proxies="", access_log=False)
    assert (changed.trusted_proxies, changed.access_log) == ((), False)
    for name, value in (
        ("QUEUE", "many"),
        ("MAX_BODY", "-1"),
        ("BODY_SECONDS", "nan"),
        ("TRUSTED_PROXIES", "x"),
    ):
        with pytest.raises(ConfigurationError, match=f"QMODAL_WEB_{name}"):
            GatewayOptions.from_environ({f"QMODAL_WEB_{name}": value})

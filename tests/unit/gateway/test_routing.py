"""Routing: the names in hosts, class parameters in queries, and how long a pool's queue is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qmodal.services.gateway.exchange.responses import RefusedError
from qmodal.services.gateway.routing.load import LOOK_SECONDS, PoolLoad
from qmodal.services.gateway.routing.parameters import read_parameters
from qmodal.services.gateway.routing.router import names_of_host
from qmodal.spec.parameters import ParameterSpec, bind, encode
from qmodal.store.watch.observing import ConsumerView, Observation

SPECS = (
    ParameterSpec(name="city", kind="str", required=True),
    ParameterSpec(name="size", kind="int", required=False, default=3),
    ParameterSpec(name="open", kind="bool", required=False, default=True),
    ParameterSpec(name="raw", kind="bytes", required=False, default=b""),
)


@pytest.mark.parametrize(
    ("host", "domain", "label"),
    [
        (b"shop.example.com", "shop.example.com", "shop"),
        (b"shop.localhost:8000", "shop.localhost", "shop"),
        (b"a-b.example.com.", "a-b.example.com", "a-b"),
    ],
)
def test_a_host_is_a_domain_and_begins_with_a_label(host: bytes, domain: str, label: str) -> None:
    assert names_of_host(host) == [("domain", domain), ("label", label)]


@pytest.mark.parametrize(
    "host",
    [b"", b"localhost", b"localhost:80", b"127.0.0.1", b"127.0.0.1:80", b"[::1]:80", b".a", b"a."],
)
def test_addresses_and_names_without_a_dot_lead_nowhere(host: bytes) -> None:
    assert names_of_host(host) == []


def test_parameters_are_those_that_a_caller_would_bind() -> None:
    values, encoded = read_parameters(
        SPECS, b"other=1&size=1_0&city=a+b&open=OFF&raw=%C3%A4&city=K%C3%B6ln"
    )
    assert values == {"city": "Köln", "size": 10, "open": False, "raw": "ä".encode()}
    given = {"city": "Köln", "size": 10, "open": False, "raw": "ä".encode()}
    assert encoded == encode(bind(SPECS, (), given))
    values, encoded = read_parameters(SPECS, b"city=")
    assert values == {"city": "", "size": 3, "open": True, "raw": b""}
    assert read_parameters((), b"a=1") == ({}, b"")


@pytest.mark.parametrize(
    ("query", "kind", "name"),
    [
        (b"", "missing", "city"),
        (b"city=a&size=1.5", "int_parsing", "size"),
        (b"city=a&size=", "int_parsing", "size"),
        (b"city=a&size=9223372036854775808", "int_parsing_size", "size"),
        (b"city=a&size=" + b"9" * 5000, "int_parsing_size", "size"),
        (b"city=a&open=", "bool_parsing", "open"),
        (b"city=" + b"a" * 20_000, "value_error", "city"),
    ],
)
def test_wrong_parameters_are_422_and_say_which(query: bytes, kind: str, name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read_parameters(SPECS, query)
    response = refused.value.response
    assert response.status == 422
    (detail,) = json.loads(response.body)["detail"]
    assert (detail["type"], detail["loc"]) == (kind, ["query", name])


def observed(inflight: int, *pending: int) -> Observation:
    """A pool whose containers hold so many inputs."""
    about: dict[str, Any] = dict.fromkeys(("pool", "app", "function", "label"), "")
    consumers = tuple(ConsumerView(str(at), count) for at, count in enumerate(pending))
    return Observation(
        **about,
        inflight=inflight,
        submitted=0,
        delayed=0,
        consumers=consumers,
        service_time=None,
        start_time=None,
    )


def test_what_waits_is_what_was_seen_and_what_was_sent_since() -> None:
    load = PoolLoad(capacity=10)
    assert (load.waiting, load.is_due(0.0)) == (0, True)
    load.looked_at = 0.0
    assert not load.is_due(LOOK_SECONDS / 2)
    load.open = 20
    load.look(observed(25, 10, 3))  # two containers: 13 run, 12 wait, and 7 more could run
    assert load.waiting == 12
    load.open = 27
    assert load.waiting == 12
    load.open = 30
    assert load.waiting == 15
    load.open = 5  # answered
    assert load.waiting == 12
    load.look(None)
    assert load.waiting == 0

"""Gateways on a real server: which of them live, and which one a URL names."""

from __future__ import annotations

from qmodal.client.client import Client
from qmodal.store.web.gateways import GATEWAY_LEASE_MS, Gateway
from tests.support.store.bench import Bench

OLD = Gateway("gw-old", "http://127.0.0.1:8000", 1)
NEW = Gateway("gw-new", "http://127.0.0.1:8001", 2)


def living(client: Client) -> list[Gateway]:
    return client.run(client.gateways.living())


def test_the_gateway_that_started_last_is_the_one_to_name(client: Client) -> None:
    gateways = client.gateways
    assert client.run(gateways.newest()) is None
    for each in (NEW, OLD, NEW, OLD):
        client.run(gateways.renew(each))
    assert living(client) == [NEW, OLD]
    assert client.run(gateways.newest()) == NEW.url
    client.run(gateways.remove(NEW.gateway))
    assert client.run(gateways.newest()) == OLD.url
    client.run(gateways.remove(OLD.gateway))
    assert client.run(gateways.newest()) is None


def test_a_gateway_that_was_killed_is_forgotten_with_its_lease(bench: Bench) -> None:
    client, keys = bench.client, bench.client.keys
    for each in (OLD, NEW):
        client.run(client.gateways.renew(each))
    known = [keys.gateways, keys.gateway(NEW.gateway), keys.gateway(OLD.gateway)]
    assert all(0 < bench.left(key) <= GATEWAY_LEASE_MS for key in known)
    bench.ask(b"DEL", keys.gateway(NEW.gateway))  # as when its time is over
    assert living(client) == [OLD]
    assert bench.ask(b"ZCARD", keys.gateways) == 1
    client.run(client.gateways.renew(NEW))
    assert living(client) == [NEW, OLD]


def test_what_others_have_written_is_no_gateway(bench: Bench) -> None:
    client, keys = bench.client, bench.client.keys
    client.run(client.gateways.renew(OLD))
    copy = bench.ask(b"GET", keys.gateway(OLD.gateway))
    for name, value in (("gw-copy", copy), ("gw-odd", b"http://example.com")):
        bench.ask(b"SET", keys.gateway(name), value, b"PX", GATEWAY_LEASE_MS)
        bench.ask(b"ZADD", keys.gateways, 3, name)
    bench.ask(b"ZADD", keys.gateways, 3, b"\xff")
    assert living(client) == [OLD]

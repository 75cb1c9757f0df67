"""Gateways that are known and serve nobody, for tests of URLs."""

from __future__ import annotations

from qmodal.client.client import Client
from qmodal.store.web.gateways import Gateway
from qmodal.transport.operation import ask

GATEWAY = Gateway("gw-1", "http://127.0.0.1:8000", 1)
LEASE_MS = 120_000  # nobody renews it, and commands take their time on a busy machine


def announce(client: Client, gateway: Gateway = GATEWAY) -> None:
    """Make the gateway known for the length of a test."""
    keys = client.keys
    client.run(client.gateways.renew(gateway))
    known = (keys.gateways, keys.gateway(gateway.gateway))
    client.run(ask(*((b"PEXPIRE", key, LEASE_MS) for key in known)))

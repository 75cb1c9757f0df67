"""Gateways as their clients see them, the processes that they are, and some that are known and serve nobody."""

from __future__ import annotations

import urllib.error
import urllib.request

import psutil

from qmodal.client.client import Client
from qmodal.store.web.gateways import Gateway
from qmodal.transport.operation import ask

GATEWAY = Gateway("gw-1", "http://127.0.0.1:8000", 1)
LEASE_MS = 120_000  # nobody renews it, and commands take their time on a busy machine
# Nothing of a test goes through a proxy of the machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def announce(client: Client, gateway: Gateway = GATEWAY) -> None:
    """Make the gateway known for the length of a test."""
    keys = client.keys
    client.run(client.gateways.renew(gateway))
    known = (keys.gateways, keys.gateway(gateway.gateway))
    client.run(ask(*((b"PEXPIRE", key, LEASE_MS) for key in known)))


def get(url: str, seconds: float = 30.0) -> tuple[int, str]:
    """The status and body of the answer, whatever its status is."""
    try:
        with _opener.open(url, timeout=seconds) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def gateways_below(pid: int) -> list[psutil.Process]:
    """The gateway processes among the descendants of that one."""
    return [each for each in psutil.Process(pid).children(recursive=True) if _is_gateway(each)]


def _is_gateway(process: psutil.Process) -> bool:
    try:
        line = process.cmdline()
    except psutil.Error:
        return False
    return "qmodal" in line and "web" in line[line.index("qmodal") :]

"""The gateway of a private stack: started once an app has web functions, and waited for."""

from __future__ import annotations

import logging
import time

from qmodal.client.client import Client
from qmodal.spec.documents import Version
from qmodal.spec.registry import Registry
from qmodal.spec.web import has_web
from qmodal.transport.operation import Op, Pause

log = logging.getLogger("qmodal")
# How long a gateway may take to start; half a second on two idle cores.
GATEWAY_SECONDS = 15.0
GATEWAY_POLL_SECONDS = 0.02


def declares_web(registry: Registry) -> bool:
    """Whether the app has web functions, or methods that are."""
    return any(entry.options.recorded.get("web") for entry in registry.entries.values())


def publishes_web(version: Version) -> bool:
    """Whether a published version has web functions."""
    return any(map(has_web, version.functions.values()))


def start_gateway(client: Client, *, has_web: bool) -> bool:
    """Have the private stack of this process start its gateway, if there are web functions; at once.

    Whether there will be one to wait for. Raises ConfigurationError if its port is not free.
    """
    if client.stack is None or not has_web:
        return False
    from qmodal.embedded.gateway import INSTALL_WEB, missing_for_gateway

    if missing := missing_for_gateway():
        log.warning(
            "web functions are not served (%s missing): %s", ", ".join(missing), INSTALL_WEB
        )
        return False
    return client.stack.start_gateway()


def gateway_ready(client: Client) -> Op[None]:
    """Wait until a gateway lives, so that the URLs of web functions are known; warns if none does in time."""
    ends = time.monotonic() + GATEWAY_SECONDS
    while (yield from client.gateways.newest()) is None:
        if time.monotonic() > ends:
            log.warning("no gateway has started after %d s%s", GATEWAY_SECONDS, _said(client))
            return
        yield Pause(GATEWAY_POLL_SECONDS)


def _said(client: Client) -> str:
    """The end of what the stack has written down."""
    file = None if client.stack is None else client.stack.place.log
    try:
        lines = [] if file is None else file.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return "".join(f"\n  {line}" for line in lines[-5:])

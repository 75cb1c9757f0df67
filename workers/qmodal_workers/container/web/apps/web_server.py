"""The server that user code starts on a port: waited for, then reached through a proxy."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from qmodal.exception import ExecutionError, TimeoutError
from qmodal.spec.web import WebSpec

# A server that listens on `localhost` may do so on either.
HOSTS = ("127.0.0.1", "::1")
PAUSE_SECONDS, CONNECT_SECONDS = 0.02, 1.0


async def check_free(port: int) -> None:
    """Raise ExecutionError if something listens on the port already: requests would go there."""
    if await _listening(port):
        raise ExecutionError(
            f"port {port} of this machine is taken. Containers of one machine share its ports, so a function "
            "of `@web_server` can have one container on each: give every function a port of its own, and on "
            "a single machine set `max_containers=1`."
        )


async def until_listening(spec: WebSpec) -> str:
    """The host on which its port accepts connections; raises TimeoutError after `startup_timeout` seconds."""
    ends = time.monotonic() + spec.startup_timeout
    while (host := await _listening(spec.port)) is None:
        if time.monotonic() > ends:
            raise TimeoutError(
                f"the server on port {spec.port} has accepted no connection within "
                f"{spec.startup_timeout:g} s. The function has to start it and return; if it needs longer, "
                "set `startup_timeout` of `@web_server`."
            )
        await asyncio.sleep(PAUSE_SECONDS)
    return host


async def _listening(port: int) -> str | None:
    """The host on which somebody accepts connections to the port; None if nobody does."""
    for host in HOSTS:
        with suppress(OSError):
            async with asyncio.timeout(CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            return host
    return None

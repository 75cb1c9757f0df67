"""A gateway as a service: with the settings of its environment, until a signal says to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qmodal.client.client import Client
from qmodal.client.discovery import discovered
from qmodal.config import Settings, parse_web_url
from qmodal.embedded.credentials import withdraw
from qmodal.embedded.gateway import GATEWAY_NEEDS, INSTALL_WEB
from qmodal.exception import ConfigurationError, ConnectionError, Error
from qmodal.services.gateway.options import GatewayOptions, Reporting
from qmodal.store.server import ping
from qmodal.store.web.gateways import GATEWAY_RENEW_SECONDS, Gateway
from qmodal.telemetry.events import GATEWAY_TROUBLE, GATEWAY_WAITS, emit
from qmodal.telemetry.log_lines import begin_log
from qmodal.transport.defects import survive

if TYPE_CHECKING:
    from qmodal.services.gateway.app import GatewayApp

Ready = Callable[[str], None]
BACKLOG = 2048
LEAVE_SECONDS = 2.0
MOST_DESCRIPTORS = 65_536
# Requests under way are more objects than the collector's usual 700, and they go without it: at 700 it took a tenth of
# a busy gateway's time, for nothing.
COLLECT_AFTER = (5000, 5, 5)
# While there is no server to be reached.
ASK_SECONDS, ASK_AGAIN_SECONDS = 2.0, 1.0


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    url: str | None = None,
    trusted_proxies: str | None = None,
    reporting: Reporting | None = None,
    insecure: bool = False,
    fd: int | None = None,
    ready: Ready | None = None,
) -> None:
    """Answer HTTP requests until SIGTERM or Ctrl-C; exits with 2, and says why, if it cannot with these settings.

    `host` and `port` (0: any free one) are 127.0.0.1 and 8000, or 0.0.0.0 and PORT where that variable is set; `fd` is
    a socket to listen on instead. `url` is where others reach it. Once it listens it calls `ready` with its base URL,
    or else writes a line to stdout, unless it was given the socket. What is not given comes from the environment
    (`GatewayOptions`).
    """
    told = reporting or Reporting()
    begin_log(as_json=told.log_json)
    try:
        settings = Settings.from_environ(os.environ)
        settings = discovered(replace(settings, insecure=settings.insecure or insecure))
        if url is not None:
            settings = replace(settings, web_url=parse_web_url(url, "--url"))
        options = GatewayOptions.from_environ(os.environ)
        options = options.changed(
            trusted_proxies=trusted_proxies, access_log=told.access_log, log_json=told.log_json
        )
        withdraw(settings)
        gc.set_threshold(*COLLECT_AFTER)
        _import_needed()
        _allow_descriptors()
        listener = listen(*place_for(os.environ, host, port)) if fd is None else inherited(fd)
        say = _print_url if fd is None else _tell_nobody  # whoever has opened it knows the URL
        metrics_port = told.metrics_port or settings.metrics_port
        run(Client(settings), options, listener, ready=ready or say, metrics_port=metrics_port)
    except ConfigurationError as error:
        sys.stderr.write(f"qmodal web: {error}\n")
        raise SystemExit(2) from None
    except Error as error:
        sys.stderr.write(f"qmodal web: {error}\n")
        raise SystemExit(1) from None


def _import_needed() -> None:
    for name in GATEWAY_NEEDS:
        try:
            import_module(name)
        except ImportError as error:
            raise ConfigurationError(
                f"{error.name} is not installed, and a gateway needs it: {INSTALL_WEB}"
            ) from error


def _allow_descriptors() -> None:
    """Take as many as this user may have: a connection is one, and many systems begin with 1024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _print_url(url: str) -> None:
    sys.stdout.write(f"qmodal web: {url}\n")
    sys.stdout.flush()


def _tell_nobody(url: str) -> None:
    pass


def place_for(environ: Mapping[str, str], host: str | None, port: int | None) -> tuple[str, int]:
    """Where to listen; raises ConfigurationError. A platform that sets PORT sends requests from outside."""
    told = environ.get("PORT", "").strip()
    if port is None and told:
        if not (told.isascii() and told.isdigit() and int(told) < 65536):
            raise ConfigurationError(f"PORT is {told!r}; write a number below 65536, or unset it")
        return host or "0.0.0.0", int(told)
    return host or "127.0.0.1", 8000 if port is None else port


def run(
    client: Client,
    options: GatewayOptions,
    listener: socket.socket,
    *,
    ready: Ready,
    metrics_port: int | None = None,
) -> None:
    """Serve in this thread, in a loop of its own; raises ConfigurationError for what cannot be used."""
    import uvloop

    url = client.settings.web_url or base_url(listener, client.settings.redis_url or "")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(client, options, listener, url, ready, metrics_port))


async def _serve(
    client: Client,
    options: GatewayOptions,
    listener: socket.socket,
    url: str,
    ready: Ready,
    metrics_port: int | None,
) -> None:
    from qmodal.services.gateway.app import GatewayApp
    from qmodal.services.gateway.server import GatewayServer, config_for
    from qmodal.services.gateway.shared import Shared

    registration = Registration(client, url)
    await _until_answered(client)
    shared = Shared(client, options)
    await shared.inbox.open()
    app = GatewayApp(shared)
    gc.freeze()  # what is there by now stays

    async def on_start() -> None:
        await registration.begin()
        ready(url)

    server = GatewayServer(config_for(app, grace=options.grace), on_start, registration.end)
    try:
        with _measured(client, app, metrics_port):
            await server.serve(sockets=[listener])
    finally:
        await server.cancel_requests()
        app.results.close()
        await shared.close()
        await client.aclose()


@contextmanager
def _measured(client: Client, app: GatewayApp, port: int | None) -> Iterator[None]:
    """Count requests and serve metrics on that port meanwhile, if there is one."""
    if port is None:
        yield
        return
    from qmodal.services.gateway.figures import GatewayFigures
    from qmodal.services.gateway.metrics import GatewayMetrics

    app.figures = GatewayFigures()
    server = GatewayMetrics(client, app.figures).serve(port)
    try:
        yield
    finally:
        server.close()


async def _until_answered(client: Client) -> None:
    """Wait for a server that is not there yet: a host starts everything at once."""
    while True:
        try:
            await client.aio(ping(patience=ASK_SECONDS))
        except ConnectionError as error:
            emit(GATEWAY_WAITS, reason=str(error))
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        else:
            return


class Registration:
    """Keeps the gateway among those that live."""

    def __init__(self, client: Client, url: str) -> None:
        started = time.time_ns() // 1_000_000
        self._client = client
        self._gateway = Gateway("gw-" + secrets.token_hex(8), url, started)
        self._renewing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Make it known, and keep it so."""
        await self._client.aio(self._client.gateways.renew(self._gateway))
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(GATEWAY_RENEW_SECONDS)
            with survive("renewing the gateway"):
                await self._client.aio(self._client.gateways.renew(self._gateway))

    async def end(self) -> None:
        """Have nobody sent to it any more."""
        if self._renewing is not None:
            self._renewing.cancel()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._client.aio(self._client.gateways.remove(self._gateway.gateway))
        except (Error, TimeoutError) as error:  # its lease ends soon
            emit(GATEWAY_TROUBLE, activity="the gateway could not be removed", reason=str(error))


def base_url(listener: socket.socket, redis_url: str) -> str:
    """The URL of a socket that listens; where it does so on all addresses, the one towards the server's network."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = _own_address(redis_url)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def _own_address(redis_url: str) -> str:
    parts = urllib.parse.urlsplit(redis_url)
    if not parts.hostname:
        return "127.0.0.1"
    try:
        place = socket.getaddrinfo(parts.hostname, 6379, type=socket.SOCK_DGRAM)[0]
        with socket.socket(place[0], place[1]) as probe:
            probe.connect(place[4])  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def inherited(descriptor: int) -> socket.socket:
    """The socket that whoever has started this process listens on; raises ConfigurationError."""
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigurationError(
            f"descriptor {descriptor} is no socket: {error.strerror}"
        ) from error
    listener.setblocking(False)
    return listener


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; raises ConfigurationError."""
    if not 0 <= port < 65536:
        raise ConfigurationError(f"there is no port {port}; choose a --port below 65536")
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _bound(socket.socket(family, kind, number), address)
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"nothing can listen on {host}:{port} ({why}); choose another --host or --port"
        ) from error


def _bound(listener: socket.socket, address: tuple[Any, ...]) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Two that are bound and do not listen may have the same port.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener

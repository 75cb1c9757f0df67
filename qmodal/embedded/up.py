"""The stack of `qmodal up`: on a state folder, with its lock, its data and perhaps a TCP address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from qmodal.config import Settings
from qmodal.embedded.folder import SOCKET
from qmodal.embedded.gateway import Listener, listen_near
from qmodal.embedded.home import Home
from qmodal.embedded.metrics_ports import metrics_ports, with_ports
from qmodal.embedded.server import Listen, ServerVersion, find_binary, probe_version, server_command
from qmodal.embedded.stack import CHILDREN, Children, Place, Stack, launch
from qmodal.embedded.supervisor.plan import StackPlan

# Seconds: what running inputs get when a person or the host asks for the end. Hosts kill at 30.
STOP_GRACE = 25.0
# Seconds that they get when `qmodal up` itself was killed.
ABANDONED_UP_GRACE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A running `qmodal up`: its stack, and what to tell people about it."""

    stack: Stack
    home: Home
    server: ServerVersion
    listen: Listen | None
    gateway_url: str = ""
    metrics: Mapping[str, int] = field(default_factory=dict)  # ports by process


def start_kept(
    settings: Settings,
    *,
    bind: tuple[str, int] | None = None,
    web_port: int | None = None,
    metrics_port: int | None = None,
    children: Children = CHILDREN,
) -> Kept:
    """Starts the stack on `settings.home`; with `bind` the server also listens on TCP.

    With `web_port` there is a gateway, on that port or on the next free one; with `metrics_port` each process serves
    its metrics, on this port and those behind it. ConfigurationError if the folder is in use, is not ours, holds data
    of a newer server or calls signed with another key, if a port for metrics is taken, or if the server does not start.
    """
    home = Home(settings.home)
    home.prepare()
    lock = home.lock()
    try:
        binary = find_binary()
        server = probe_version(binary)
        home.admit(server)
        settings = home.keyed(settings)
        listen = Listen(address=bind[0], port=bind[1], password=home.password()) if bind else None
        ports = metrics_ports(metrics_port)
        told = with_ports(children, ports)
        plan = _plan(home, binary, lock=lock, listen=listen, children=told)
        gateway: Listener | None = None
        if web_port is not None:
            gateway = replace(listen_near(web_port), metrics_port=ports.get("web"))
    except BaseException:
        os.close(lock)
        raise
    place = Place(folder=home.folder, log=None, private=False)
    gateway_url = "" if gateway is None else gateway.url
    stack = launch(plan, place=place, settings=settings, gateway=gateway)
    running = {*told, *(["web"] if gateway is not None else [])}
    return Kept(
        stack=stack,
        home=home,
        server=server,
        listen=listen,
        gateway_url=gateway_url,
        metrics={name: port for name, port in ports.items() if name in running},
    )


def _plan(
    home: Home, binary: Path, *, lock: int, listen: Listen | None, children: Children
) -> StackPlan:
    socket = home.socket()
    password = listen.password if listen else ""
    return StackPlan(
        server=server_command(binary, data=home.data, socket=socket, kept=True, listen=listen),
        server_log=str(home.server_log),
        socket=str(socket),
        url=home.publish(socket, password),
        key_file=str(home.key_file),
        lock=lock,
        kept=True,
        grace=ABANDONED_UP_GRACE,
        password=password,
        children={name: list(argv) for name, argv in children.items()},
        remove=_short_folder(home, socket),
    )


def _short_folder(home: Home, socket: Path) -> list[str]:
    return [] if socket == home.folder / SOCKET else [str(socket.parent)]

"""The gateway of a stack: the socket that it listens on, and the command that answers there."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from qmodal.exception import ConfigurationError

# The gateway of a stack is for this machine; `qmodal web --host` is for others.
GATEWAY_HOST = "127.0.0.1"
GATEWAY_PORT = 8000
# Ports after the wanted one that are tried before any free one is taken.
NEXT_PORTS = 20
# What the extra `web` installs and a gateway cannot do without.
GATEWAY_NEEDS = ("uvloop", "httptools", "starlette", "uvicorn", "websockets")
INSTALL_WEB = "pip install 'qmodal[web]'"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens, to be inherited by the gateway.

    Whoever starts a stack opens it, so that two stacks that start at once get two ports. It stays
    open while a gateway is started again, so that requests wait for that instead of being refused.
    """

    socket: socket.socket
    metrics_port: int | None = None  # for its metrics

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where the gateway answers, for programs on this machine."""
        return f"http://{GATEWAY_HOST}:{self.port}"

    @property
    def command(self) -> list[str]:
        """What starts the gateway, in a process that inherits the socket under the same number."""
        number = str(self.socket.fileno())
        metrics = [] if self.metrics_port is None else ["--metrics-port", str(self.metrics_port)]
        return [sys.executable, "-P", "-m", "qmodal", "web", "--fd", number, *metrics]

    def close(self) -> None:
        """Let go of this process's copy of the socket."""
        self.socket.close()


def missing_for_gateway() -> list[str]:
    """The packages that a gateway needs and that are not installed; nothing is imported."""
    return [name for name in GATEWAY_NEEDS if importlib.util.find_spec(name) is None]


def listen_near(port: int) -> Listener:
    """Listen on this port of this machine, or on the next free one if something else does.

    ConfigurationError if this user may not listen on that port.
    """
    for candidate in _candidates(port):
        try:
            return Listener(socket.create_server((GATEWAY_HOST, candidate)))
        except PermissionError as error:
            raise ConfigurationError(
                f"this user may not listen on port {candidate}; name one from 1024 on"
            ) from error
        except OSError:  # something else listens there
            continue
    raise ConfigurationError(f"no port of {GATEWAY_HOST} is free for the gateway")


def listen_on(port: int) -> Listener:
    """Listen on this very port (0: any free one); ConfigurationError if that cannot be."""
    try:
        return Listener(socket.create_server((GATEWAY_HOST, port)))
    except OSError as error:
        raise ConfigurationError(
            f"the gateway cannot listen on port {port} of this machine "
            f"({os.strerror(error.errno or 0)}); set QMODAL_WEB_PORT to a free one, or unset it"
        ) from error


def _candidates(port: int) -> Iterator[int]:
    yield from range(port, min(port + NEXT_PORTS, 65536))
    yield 0

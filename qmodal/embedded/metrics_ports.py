"""The ports that the processes of `qmodal up` serve their metrics on: one behind the other."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from qmodal.exception import ConfigurationError

# In this order from the port that was named; a process that is not started leaves its port free.
METRICS_PROCESSES = ("autoscaler", "worker", "web", "control")
HIGHEST_FIRST_PORT = 65_536 - len(METRICS_PROCESSES)


def metrics_ports(first: int | None) -> dict[str, int]:
    """The port of each process; none without a first one. ConfigurationError if one is taken or too high."""
    if first is None:
        return {}
    if first > HIGHEST_FIRST_PORT:
        raise ConfigurationError(
            f"--metrics-port is {first}, and {len(METRICS_PROCESSES)} ports from there on are needed; "
            f"choose one up to {HIGHEST_FIRST_PORT}"
        )
    ports = {name: first + number for number, name in enumerate(METRICS_PROCESSES)}
    for name, port in ports.items():
        _check_free(port, name)
    return ports


def _check_free(port: int, name: str) -> None:
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise ConfigurationError(
            f"the metrics of {name} need port {port}, and nothing can listen there "
            f"({os.strerror(error.errno or 0)}); choose another --metrics-port"
        ) from error


def with_ports(
    children: Mapping[str, Sequence[str]], ports: Mapping[str, int]
) -> dict[str, Sequence[str]]:
    """The commands, each told its port if it has one."""
    return {
        name: [*argv, "--metrics-port", str(ports[name])] if name in ports else argv
        for name, argv in children.items()
    }

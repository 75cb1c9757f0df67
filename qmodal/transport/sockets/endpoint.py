"""Where a plain URL leads: the server's address, and who logs in there.

redis-py reads every other URL: for TLS, with options that are rare, and those that are wrong, so that
it says what is wrong. To import it takes a tenth of a second and 5 MiB of every process.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field

DEFAULT_PORT = 6379
_SCHEMES = ("redis://", "unix://")
_OPTIONS = {"db", "username", "password", "client_name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server's address, and what is sent to log in; `path` is that of a Unix socket, None for TCP."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    client_name: str = ""

    @property
    def where(self) -> str:
        """The address in words."""
        return f"{self.host}:{self.port}" if self.path is None else self.path

    def login(self) -> list[tuple[bytes, ...]]:
        """The commands to send first; the server answers OK to each."""
        commands: list[tuple[bytes, ...]] = []
        if self.username or self.password:
            names = [self.username.encode()] if self.username else []
            commands.append((b"AUTH", *names, self.password.encode()))
        if self.client_name:
            commands.append((b"CLIENT", b"SETNAME", self.client_name.encode()))
        if self.db:
            commands.append((b"SELECT", b"%d" % self.db))
        return commands


def plain_endpoint(url: str) -> Endpoint | None:
    """Where the URL leads, exactly as redis-py reads it; None if that has to read it.

    What the URL names twice is what stands before the `?`; only the database is what stands behind.
    """
    try:
        return _read(url) if url.startswith(_SCHEMES) else None
    except ValueError:
        return None


def _read(url: str) -> Endpoint | None:
    parts = urllib.parse.urlsplit(url)
    options = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
    if not options.keys() <= _OPTIONS:
        return None
    is_unix = parts.scheme == "unix"
    path, number = urllib.parse.unquote(parts.path), options.get("db")
    return Endpoint(
        host="localhost" if is_unix else urllib.parse.unquote(parts.hostname or "localhost"),
        port=DEFAULT_PORT if is_unix else parts.port or DEFAULT_PORT,
        path=path if is_unix else None,
        username=urllib.parse.unquote(parts.username or "") or options.get("username", ""),
        password=urllib.parse.unquote(parts.password or "") or options.get("password", ""),
        db=_database("" if is_unix else path) if number is None else int(number),
        client_name=options.get("client_name", ""),
    )


def _database(path: str) -> int:
    try:
        return int(path.replace("/", ""))
    except ValueError:
        return 0  # as redis-py reads a path that is no number

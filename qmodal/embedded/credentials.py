"""The signing key and the server's password on their way to child processes: files, not variables.

What is in a process's environment is inherited by all that it starts, is shown by
`/proc/<pid>/environ`, and is what error reporters and `print(os.environ)` write down first.
"""

from __future__ import annotations

import os
import sys
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from qmodal.config import Settings
from qmodal.wire.publishing import complete

_MODE = 0o400


def password_of(url: str) -> str:
    """The password in a URL as it is spelled there; empty if it has none."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return ""
    asked = dict(part.partition("=")[::2] for part in parts.query.split("&"))
    return parts.password or asked.get("password", "")


def credential_variables(environ: Mapping[str, str], settings: Settings) -> list[str]:
    """Which of these variables hold a key, or the password of the server that qmodal uses.

    Those of the publishing key are for nobody that a process starts, not even the file's name.

    A `REDIS_URL` with another password is the user's own and no business of ours.
    """
    own = password_of(settings.redis_url or "")
    urls = ("QMODAL_REDIS_URL", "REDIS_URL") if own else ()
    keys = ("QMODAL_SIGNING_KEY", "QMODAL_PUBLISHING_KEY", "QMODAL_PUBLISHING_KEY_FILE")
    key = [name for name in keys if name in environ]
    return key + [name for name in urls if password_of(environ.get(name, "")) == own]


def receiving(settings: Settings) -> Settings:
    """The settings of who accepts the same versions of apps and makes none."""
    return replace(complete(settings), publishing_key=None)


def withdraw(settings: Settings) -> None:
    """Take the credentials out of this process's environment, and out of what `/proc` shows of it.

    Forked processes show the variables that their ancestor began with, in the same memory; to
    delete a variable leaves its text there.
    """
    names = credential_variables(os.environ, settings)
    if not names:
        return
    import ctypes

    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    for name in names:
        place = getenv(os.fsencode(name))
        if place:
            ctypes.memset(place, ord("*"), len(ctypes.string_at(place)))
        del os.environ[name]


def child_environ(settings: Settings, *, key_file: str, url_file: str = "") -> dict[str, str]:
    """All variables of a child process: ours without credentials, and the files that hold these.

    `url_file` is needed if the URL has a password.
    """
    taken = {*credential_variables(os.environ, settings), "QMODAL_REDIS_URL_FILE"}
    taken.add("QMODAL_METRICS_PORT")  # this process has it, and no two can
    environ = {name: value for name, value in os.environ.items() if name not in taken}
    environ |= settings.to_environ()
    del environ["QMODAL_SIGNING_KEY"]
    environ["QMODAL_SIGNING_KEY_FILE"] = key_file
    if url_file:
        del environ["QMODAL_REDIS_URL"]
        environ["QMODAL_REDIS_URL_FILE"] = url_file
    return environ


class CredentialFiles:
    """Files with the credentials of this process, for those that it starts; they go with it.

    Only with `may_publish` they get the private publishing key, too.
    On Linux they are in memory, and their paths name our descriptors, so that even SIGKILL leaves
    nothing on a disk. Elsewhere they are in a private folder, which the next start removes.
    """

    def __init__(self, settings: Settings, *, may_publish: bool = False) -> None:
        self._settings = settings
        self._held: list[int] = []
        self._folder: Path | None = None
        url = settings.redis_url or ""
        self._key = self._hold("key", (settings.signing_key or b"").hex())
        self._url = self._hold("url", url) if password_of(url) else ""
        private = settings.publishing_key if may_publish else None
        self._publishing = "" if private is None else self._hold("publishing", private.hex())

    def environ(self) -> dict[str, str]:
        """All variables of a child process."""
        environ = child_environ(self._settings, key_file=self._key, url_file=self._url)
        if self._publishing:
            environ["QMODAL_PUBLISHING_KEY_FILE"] = self._publishing
        return environ

    def _hold(self, name: str, text: str) -> str:
        if sys.platform != "linux":
            return self._write(name, text)
        fd = os.memfd_create(f"qmodal-{name}", os.MFD_CLOEXEC)
        self._held.append(fd)
        os.write(fd, text.encode())
        os.fchmod(fd, _MODE)
        return f"/proc/{os.getpid()}/fd/{fd}"

    def _write(self, name: str, text: str) -> str:
        from qmodal.embedded.folder import write_private
        from qmodal.embedded.private import make_private_folder, sweep_abandoned

        if self._folder is None:
            sweep_abandoned()
            self._folder, lock = make_private_folder()
            self._held.append(lock)
        write_private(self._folder / name, text)
        return str(self._folder / name)

    def close(self) -> None:
        """End them; children that start from now on find no credentials."""
        if self._folder is not None:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)
        while self._held:
            os.close(self._held.pop())

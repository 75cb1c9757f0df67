"""Debian's Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Without the later ones it looks for hosts of Google's at every start.
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


@dataclass(slots=True)
class Page:
    """A tab of a browser."""

    connection: ClientConnection
    number: int = 0

    def open(self, url: str, *, first: str) -> None:
        """Go there; the script `first` runs before anything of the page does."""
        self.tell("Page.enable")
        self.tell("Page.addScriptToEvaluateOnNewDocument", source=first)
        self.tell("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript; None if it raises, as before the page is there."""
        found = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def tell(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its result; events are left out."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.connection.send(json.dumps(message))
        while True:
            answer = json.loads(self.connection.recv(timeout=30))
            if answer.get("id") == self.number:
                return answer["result"]


@contextmanager
def browser() -> Iterator[Page]:
    """A new browser with one empty page; it and its folder are gone afterwards."""
    assert CHROMIUM is not None
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with tempfile.TemporaryDirectory(prefix="b-", ignore_cleanup_errors=True) as folder:
        command = [CHROMIUM, *flags, f"--user-data-dir={folder}", "about:blank"]
        log = Path(folder) / "log"
        with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
            try:
                port = wait_until(lambda: _port(Path(folder)), what="Chromium is up", seconds=30)
                with connect(_address(port), max_size=None, proxy=None) as connection:
                    yield Page(connection)
            finally:
                process.terminate()
                process.wait(10)


def _port(folder: Path) -> str:
    file = folder / "DevToolsActivePort"
    return file.read_text().split("\n")[0] if file.exists() else ""


def _address(port: str) -> str:
    """Where its first page listens to commands."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as response:
        pages = [each for each in json.load(response) if each["type"] == "page"]
    address: str = pages[0]["webSocketDebuggerUrl"]
    return address

"""Processes that serve metrics, and what a scrape of one shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from qmodal.config import Settings
from tests.support.stacks import ROOT
from tests.support.waiting import wait_until

SECONDS = 30.0
AUTOSCALER = "from qmodal_autoscaler.cli import autoscaler; autoscaler()"
# Nothing of a test goes through a proxy of the machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one scrape: name and labels → value."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the sample with exactly these labels; None if there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name that have these labels, among others."""
        wanted = labels.items()
        return sum(
            value
            for (each, found), value in self.samples.items()
            if each == name and wanted <= found
        )

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self.samples}


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nothing listens on now."""
    while True:
        first = free_port()
        with suppress(OSError, OverflowError), ExitStack() as listeners:
            for port in range(first, first + count):
                listeners.enter_context(socket.create_server(("", port)))
            return first


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and content of what is served there; 0 while nothing is."""
    try:
        with _opener.open(f"http://127.0.0.1:{port}{path}", timeout=SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def scrape(port: int) -> Scrape:
    """What is there now; nothing while nobody listens."""
    status, text = fetch(port, "/metrics")
    assert status in (0, 200), text
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


@contextmanager
def autoscaler(settings: Settings, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """An autoscaler process of these settings."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", AUTOSCALER, *options],
        env={**os.environ, **settings.to_environ()},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def until_up(port: int) -> None:
    """Wait until metrics are served there."""
    wait_until(lambda: fetch(port, "/healthz")[0] == 200, what="it serves metrics", seconds=SECONDS)


def unexplained(found: Scrape) -> set[str]:
    """The names of qmodal's metrics that docs/observing.md does not have."""
    page = (ROOT / "docs" / "observing.md").read_text("utf-8")
    explained = set(re.findall(r"`(qmodal_\w+)`", page))
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found.names}
    return {name for name in names if name.startswith("qmodal_")} - explained


def lint(port: int) -> str:
    """What promtool says of the metrics that are served there; nothing if it is not installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return ""
    _, text = fetch(port, "/metrics")
    command = [promtool, "check", "metrics"]
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr

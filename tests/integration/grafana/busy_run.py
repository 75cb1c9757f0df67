"""A whole installation at work: two autoscalers, two boxes, a gateway, a program that calls them, and Prometheus."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qmodal.config import Settings
from tests.support.commands import PROGRAM, environ, qmodal
from tests.support.servers import run_server, server_binary
from tests.support.waiting import wait_until
from tests.support.web.dashboards import FOLDER
from tests.support.web.prometheus import Prometheus, prometheus
from tests.support.web.scraping import free_port, scrape, until_up

SHOP = Path(__file__).with_name("shop.py")
# The server is as it should be, so that what is red comes from the shop.
SERVER = ("--appendonly", "yes", "--maxmemory", "64mb", "--maxmemory-policy", "noeviction")


@dataclass
class BusyRun:
    """An installation at work; `targets` are the metrics ports of its processes by their names."""

    settings: Settings
    folder: Path
    prometheus: Prometheus
    targets: Mapping[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def pause(self, function: str) -> None:
        """Pause the pool of that function."""
        self._command("pool", "pause", function, "--app", "shop")

    def lose_leader(self) -> None:
        """Kill the autoscaler that leads."""
        leaders = [
            name
            for name, port in self.targets.items()
            if scrape(port).value("qmodal_autoscaler_leads") == 1
        ]
        self.processes[leaders[0]].kill()

    def deploy(self) -> None:
        """Deploy the shop."""
        self._command("deploy", str(SHOP))

    def _command(self, *argv: str) -> None:
        done = qmodal(*argv, settings=self.settings, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def busy_run(folder: Path, *, pace: float) -> Iterator[BusyRun]:
    """One that is called at this pace, as shop.py explains it."""
    names = ("autoscaler-1", "autoscaler-2", "box-1", "box-2", "web")
    targets = {name: free_port() for name in names}
    with ExitStack() as stack:
        server = stack.enter_context(run_server(server_binary(), *SERVER))
        settings = Settings(
            redis_url=server.url, signing_key=secrets.token_bytes(32), prefix="busy", home=folder
        )
        run = BusyRun(settings, folder, Prometheus(0), targets)
        web = free_port()
        for name, options in _commands(web).items():
            argv = [PROGRAM, *options, "--metrics-port", str(targets[name])]
            run.processes[name] = stack.enter_context(_process(run, name, argv))
        for port in targets.values():
            until_up(port)
        rules = FOLDER / "prometheus" / "alerts.yml"
        run.prometheus = stack.enter_context(prometheus(folder, targets, rules))
        run.deploy()
        url = f"http://127.0.0.1:{web}"
        argv = [sys.executable, "-P", str(SHOP), url, f"{pace}"]
        run.processes["load"] = stack.enter_context(_process(run, "load", argv))
        yield run
        assert run.processes["load"].poll() is None, (folder / "load.log").read_text()


def _commands(web: int) -> dict[str, list[str]]:
    worker = ["worker", "--max-containers", "16", "--grace", "1"]
    return {
        "autoscaler-1": ["autoscaler"],
        "autoscaler-2": ["autoscaler"],
        "box-1": worker,
        "box-2": worker,
        "web": ["web", "--port", str(web)],
    }


@contextmanager
def _process(run: BusyRun, name: str, argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the run, whose output is in a file."""
    with (run.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            argv,
            cwd=run.folder,
            env=environ(run.settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                process.terminate()
                _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end; who does not hear is killed."""
    try:
        wait_until(lambda: process.poll() is not None, what="it ends", seconds=10, pause=0.02)
    except AssertionError:
        process.kill()

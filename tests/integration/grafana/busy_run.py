"""A whole installation at work: two autoscalers, two boxes (one with a stub's GPUs), a gateway, a control process, a program that calls them, and Prometheus."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from qmodal.config import Settings
from tests.support.commands import PROGRAM, environ, qmodal
from tests.support.hardware.gpus import StubGpu, StubMachine, built
from tests.support.servers import run_server, server_binary
from tests.support.web.dashboards import FOLDER
from tests.support.web.prometheus import Prometheus, prometheus
from tests.support.web.scraping import free_port, scrape, until_up

SHOP = Path(__file__).with_name("shop.py")
# One is used by a stranger, one is lost, and two can be leased.
GPUS = (
    StubGpu(uuid="GPU-1"),
    StubGpu(uuid="GPU-2", used=20_000),
    StubGpu(uuid="GPU-3", name="NVIDIA L4", memory=23_034),
    StubGpu(uuid="GPU-4", name="NVIDIA L4", memory=23_034, state="lost"),
)
# The server is as it should be, so that what is red comes from the shop.
SERVER = ("--appendonly", "yes", "--maxmemory", "64mb", "--maxmemory-policy", "noeviction")


@dataclass(frozen=True, slots=True)
class BusyRun:
    """An installation at work; `targets` are the metrics ports of its processes by their names."""

    settings: Settings
    folder: Path
    prometheus: Prometheus
    targets: Mapping[str, int]
    processes: Mapping[str, subprocess.Popen[bytes]]

    def pause(self, function: str) -> None:
        """Pause the pool of that function."""
        _command(self.settings, self.folder, "pool", "pause", function, "--app", "shop")

    def lose_leader(self) -> None:
        """Kill the autoscaler that leads."""
        leader = next(
            name
            for name, port in self.targets.items()
            if scrape(port).value("qmodal_autoscaler_leads") == 1
        )
        self.processes[leader].kill()


@contextmanager
def busy_run(folder: Path, *, pace: float) -> Iterator[BusyRun]:
    """One that is called at this pace, as shop.py explains it."""
    web = free_port()
    worker = ["worker", "--max-containers", "16", "--grace", "1"]
    commands = {
        "autoscaler-1": ["autoscaler"],
        "autoscaler-2": ["autoscaler"],
        "box-1": worker,
        "box-2": worker,
        "web": ["web", "--port", str(web)],
        "control": ["control"],
    }
    targets = {name: free_port() for name in commands}
    with ExitStack() as stack:
        server = stack.enter_context(run_server(server_binary(), *SERVER))
        settings = Settings(
            redis_url=server.url, signing_key=secrets.token_bytes(32), prefix="busy", home=folder
        )

        machine = StubMachine(built(folder), folder, *GPUS)
        more = {"box-1": machine.environ, "box-2": {"QMODAL_GPUS": "none"}}

        def started(name: str, *argv: str) -> subprocess.Popen[bytes]:
            env = environ(settings, **more.get(name, {}))
            return stack.enter_context(_process(env, folder / f"{name}.log", *argv))

        processes = {
            name: started(name, PROGRAM, *options, "--metrics-port", str(targets[name]))
            for name, options in commands.items()
        }
        for port in targets.values():
            until_up(port)
        rules = FOLDER / "prometheus" / "alerts.yml"
        scraping = stack.enter_context(prometheus(folder, targets, rules))
        _command(settings, folder, "deploy", str(SHOP))
        load = started(
            "load", sys.executable, "-P", str(SHOP), f"http://127.0.0.1:{web}", f"{pace}"
        )
        yield BusyRun(settings, folder, scraping, targets, processes)
        assert load.poll() is None, (folder / "load.log").read_text()


def _command(settings: Settings, folder: Path, *argv: str) -> None:
    done = qmodal(*argv, settings=settings, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _process(env: Mapping[str, str], log: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to a file, and that is asked to end, and then made to."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv,
            cwd=log.parent,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

"""A server that keeps its data, a worker, an autoscaler and gateways, each a process that a test may end."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from qmodal.config import Settings
from qmodal.runner.run import ensure_server
from qmodal.source.loader import load_file
from tests.support.commands import PROGRAM, environ
from tests.support.servers import RestartableServer, restartable_server
from tests.support.stacks import short_folder
from tests.support.waiting import wait_until
from tests.support.web.served import Served, served

PROGRAMS = Path(__file__).parents[2] / "programs"


@dataclass
class Site:
    """All of it; `program` is deployed, and may be deployed again."""

    folder: Path
    settings: Settings
    server: RestartableServer
    program: Any
    stack: ExitStack
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: str) -> subprocess.Popen[bytes]:
        """Another `qmodal COMMAND`, which ends with the site."""
        variables = environ(self.settings, QMODAL_HOME=str(self.folder / name))
        with (self.folder / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                [PROGRAM, command],
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes[name] = process
        self.stack.callback(end, process)
        return process

    def gateway(self, **more: str) -> Served:
        """Another gateway."""
        return self.stack.enter_context(served(self.settings, **more))


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and all that it has started."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    process.kill()
    process.wait()
    for child in below:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


@contextmanager
def site(program: str = "gated.py") -> Iterator[Site]:
    """One that serves that program of tests/programs."""
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        server = stack.enter_context(restartable_server(folder))
        settings = Settings(
            redis_url=server.url, signing_key=secrets.token_bytes(32), home=folder / "own"
        )
        module: Any = load_file(PROGRAMS / program)
        stack.enter_context(ensure_server(settings))
        module.app.deploy()
        # The module is loaded once in a process, and other tests run its app.
        stack.callback(module.app._registry.attach, None)
        made = Site(folder, settings, server, module, stack)
        made.start("worker", "worker")
        made.start("autoscaler", "autoscaler")
        yield made


def answers(gateway: Served, path: str = "/gated/web/x") -> None:
    """Return once it answers with 200."""
    wait_until(lambda: gateway.get(path).status_code == 200, what=f"{path} is answered", seconds=60)

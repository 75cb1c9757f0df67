"""Boxes on a network with a server and an autoscaler, as an operator has them, and what harms them."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qmodal.client.client import Client
from tests.support.commands import PROGRAM, environ, qmodal
from tests.support.hardware.gpus import StubMachine
from tests.support.hardware.network import Network
from tests.support.waiting import wait_until


@dataclass
class SiteBox:
    """A machine of the site: its host name, the options of its worker, and the process of that, with its id."""

    host: str
    options: tuple[str, ...]
    machine: StubMachine | None
    process: subprocess.Popen[bytes] | None = None
    worker: str = ""

    def send(self, number: signal.Signals) -> None:
        """Send its worker a signal."""
        assert self.process is not None
        self.process.send_signal(number)


@dataclass
class Site:
    """What an operator does: start workers, look, cordon, and find out why something waits."""

    client: Client
    folder: Path
    network: Network
    stack: ExitStack
    boxes: dict[str, SiteBox] = field(default_factory=dict)

    def add(self, host: str, *options: str, machine: StubMachine | None = None) -> SiteBox:
        """A new box with a worker."""
        self.network.add(host)
        box = self.boxes[host] = SiteBox(host, options, machine)
        self.start_worker(box)
        return box

    def start_worker(self, box: SiteBox) -> None:
        """Its worker, for the first time or again; returns once it is enrolled."""
        argv = [*self.network.within(box.host), PROGRAM, "worker", *box.options]
        box.process = self._start(
            box.host, argv, {} if box.machine is None else box.machine.environ
        )
        box.worker = self.until_enrolled(box)

    def until_enrolled(self, box: SiteBox, *, seconds: float = 30) -> str:
        """The id of its worker, once that is another one than before."""

        def found() -> str:
            living = self.client.run(self.client.fleet.living_workers())
            records = self.client.run(self.client.boxes.records(living))
            ids = [name for name, each in records.items() if each.report.host == box.host]
            return next((name for name in ids if name != box.worker), "")

        return wait_until(found, what=f"{box.host} enrolls", seconds=seconds, pause=0.05)

    def start_autoscaler(self) -> None:
        """An autoscaler on the machine of the server."""
        self._start("autoscaler", [PROGRAM, "autoscaler"], {})

    def _start(self, name: str, argv: list[str], more: dict[str, str]) -> subprocess.Popen[bytes]:
        home = self.folder / name
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                cwd=self.folder,
                env=environ(self.client.settings, **{"QMODAL_HOME": str(home), **more}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        return process

    def is_lost(self, box: SiteBox) -> bool:
        """Whether others have given the box up."""
        return box.worker not in self.client.run(self.client.fleet.living_workers())

    def until_lost(self, box: SiteBox) -> None:
        wait_until(
            lambda: self.is_lost(box), what=f"{box.host} is given up", seconds=40, pause=0.05
        )

    def say(self, *argv: str) -> str:
        """What a command prints."""
        said = qmodal(*argv, settings=self.client.settings, cwd=self.folder)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def why(self, what: str, kind: str, words: str = "") -> str:
        """The answer of `qmodal why`, once it is of that kind and has these words."""
        said: dict[str, Any] = {}

        def is_so() -> bool:
            said.update(json.loads(self.say("why", what, "--json")))
            return said["reason"] == kind and words in said["answer"]

        try:
            wait_until(is_so, what=f"why {what}: {kind}", seconds=20, pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {said}") from None
        return str(said["answer"])

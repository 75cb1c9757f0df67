"""Control processes, and apps that are deployed with schedules; nothing runs their calls, so these stay in line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.services.control.schedules.table import Schedule, Table
from qmodal.spec.documents import PoolSpec
from tests.support.waiting import wait_until

PROGRAM = "from qmodal.cli.commands.services.control import control; control()"


def idle() -> None:
    """What nobody runs."""


@contextmanager
def control(settings: Settings, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A control process of these settings."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", PROGRAM, *options],
        env={**os.environ, **settings.to_environ()},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


@dataclass(slots=True)
class Shop:
    """A deployed app, whose functions are due at the given times."""

    client: Client
    app_id: str = ""
    name: str = "shop"

    def deploy(self, **schedules: Any) -> None:
        """Deploy it, or its next version."""
        app = qmodal.App(self.name)
        for name, schedule in schedules.items():
            app.function(name=name, serialized=True, schedule=schedule)(idle)
        before = clients.use(self.client)
        try:
            app.deploy()
        finally:
            clients.use(before)
        assert app.app_id is not None
        self.app_id = app.app_id

    def schedule(self, function: str) -> Schedule:
        """The schedule as it is now."""
        _, found = self.client.run(Table(self.client).find(self.app_id, function))
        assert found is not None
        return found

    def calls(self, function: str) -> list[str]:
        """The calls that were made of the function, in order."""
        pool = PoolSpec(app_id=self.app_id, function=function).pool
        entries = self.client.run(self.client.observing.queue(pool, count=1000))
        return [each.claimed.call for each in sorted(entries, key=lambda each: each.since)]

    def wait(self, function: str, count: int) -> list[str]:
        """The calls once there are so many."""
        wait_until(lambda: len(self.calls(function)) >= count, what="it is called", seconds=40)
        return self.calls(function)

    def stop(self) -> None:
        """Stop it, and end what waits for it."""
        functions = list(self.client.run(Table(self.client).all()))
        record = self.client.run(self.client.apps.record(self.app_id))
        assert record is not None
        self.client.run(self.client.apps.stop(record))
        for app_id, function in functions:
            pool = PoolSpec(app_id=app_id, function=function).pool
            self.client.run(self.client.pools.purge(pool, reason="stopped: the test is over"))
            self.client.run(self.client.pools.leave(pool))


@pytest.fixture
def shop(client: Client) -> Iterator[Shop]:
    """One, to be deployed; stopped at the end."""
    made = Shop(client)
    yield made
    if made.app_id:
        record = client.run(client.apps.record(made.app_id))
        if record is not None and record.state == "deployed":
            made.stop()

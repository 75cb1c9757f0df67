"""A program that is deployed, an autoscaler and a worker on the session's server, and commands that find calls."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.transport.operation import ask
from qmodal.wire.ids import SHARDS
from tests.acceptance.finding.commands import Commands
from tests.support.commands import started
from tests.support.waiting import wait_until

SOURCE = """
import os
import sys
import time

import qmodal

app = qmodal.App("shop")

@app.function()
def invert(x: int, digits: int = 3) -> float:
    return round(1 / (x - 4711), digits)

@app.function()
def wait_for(path: str, number: int = 0) -> int:
    while not os.path.exists(path):
        time.sleep(0.01)
    return number

@app.function()
def tell(word: str, path: str = "") -> None:
    print(word, "began")
    print(word, "warns", file=sys.stderr)
    if path:
        wait_for.local(path)
        print(word, "ended")

@app.function(timeout=1)
def late() -> None:
    time.sleep(60)

@app.function()
def die(load: bytes = b"") -> None:
    os.kill(os.getpid(), 9)

@app.function()
def weigh(path: str, load: bytes) -> int:
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    return len(load)

class Odd:
    pass

@app.function()
def take(odd: object) -> object:
    raise LookupError("odd")

@app.function()
def numbers(n: int):
    yield n
    raise ValueError("enough")

@app.cls()
class Model:
    size: int = qmodal.parameter()

    @qmodal.method()
    def predict(self, x: int) -> int:
        return x // self.size
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SOURCE)
    return tmp_path / "shop.py"


@pytest.fixture
def box(settings: Settings, tmp_path: Path, client: Client) -> Iterator[None]:
    """An autoscaler and a worker on the session's server, and this process as a caller."""
    before = clients.use(client)
    try:
        with ExitStack() as stack:
            children = [
                stack.enter_context(started(name, settings=settings, cwd=tmp_path))
                for name in ("autoscaler", "worker")
            ]
            yield
            try:
                _stop_all(client)
            finally:
                for child in children:
                    child.send_signal(signal.SIGTERM)
                for child in children:
                    print(*child.communicate(timeout=20))  # for whoever has to find out why
    finally:
        clients.use(before)


def _stop_all(client: Client) -> None:
    for app_id in client.run(client.apps.deployed()).values():
        record = client.run(client.apps.record(app_id))
        assert record is not None
        client.run(client.apps.stop(record))
    wait_until(lambda: not client.run(client.observing.active()), what="all pools are gone")
    client.run(ask((b"UNLINK", *map(client.keys.dead, range(SHARDS)))))


@pytest.fixture
def shop(program: Path, settings: Settings, box: None) -> Commands:
    """The program, deployed."""
    commands = Commands(settings, program.parent)
    commands.say("deploy", program)
    return commands

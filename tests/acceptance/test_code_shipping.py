"""Boxes need qmodal and nothing of the user's: what a deploy sends is all that a container has."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from tests.support.installed import QMODAL, Desk, desk
from tests.support.servers import run_server, server_binary
from tests.support.waiting import wait_until

SHOP = """
import os
import time
import prices
import qmodal
from catalog import names

app = qmodal.App("shop")

@app.function()
def offer(n: int) -> tuple[str, int, str, str]:
    from late.joke import tell
    return names()[n], prices.PRICE, tell(), os.getcwd()

@app.function(max_containers=2)
def version(n: int) -> int:
    time.sleep(0.01)
    return prices.VERSION
"""
FILES = {
    "shop.py": SHOP,
    "prices.py": "PRICE = 3\nVERSION = 1\n",
    "catalog/__init__.py": "from catalog.read import names\n",
    "catalog/read.py": "from importlib.resources import files\n"
    "def names() -> list[str]:\n"
    "    return files('catalog').joinpath('names.txt').read_text().split()\n",
    "catalog/names.txt": "apple pear\n",
    "late/joke.py": "def tell() -> str:\n    return 'knock'\n",
    "unrelated.py": "1 / 0\n",
}
NESTED = """
import qmodal

def main() -> None:
    app, base = qmodal.App("nested"), 40

    class Adder:
        def add(self, x: int) -> int:
            return base + x

    @app.function(serialized=True, name="add")
    def add(x: int) -> int:
        return Adder().add(x)

    app.deploy()

main()
"""
Command = tuple[str | Path, ...]


@dataclass(frozen=True, slots=True)
class Yard:
    """A server, a desk to deploy from, and a worker that has another one."""

    near: Desk
    far: Desk
    client: Client | None = None

    @property
    def source(self) -> Path:
        return self.near.base / "source"

    def write(self, files: dict[str, str]) -> None:
        """Have these files in the source folder."""
        for name, text in files.items():
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def deploy(self) -> int:
        """Deploy the shop; which version it is now."""
        said = self.near.run(QMODAL, "deploy", self.source / "shop.py")
        found = re.search(r"version (\d+)", said)
        assert found is not None, said
        return int(found[1])

    def versions(self, name: str) -> set[int]:
        """Which versions of the function have containers."""
        rows = json.loads(self.near.run(QMODAL, "container", "list", "--json"))
        return {row["version"] for row in rows if row["pool"] == name}


@contextmanager
def yard(url: str, inside: Command = ()) -> Iterator[Yard]:
    """An autoscaler here and a worker behind the command `inside`; nothing of them stays."""
    key = secrets.token_hex(32)
    settings = {"QMODAL_REDIS_URL": url, "QMODAL_SIGNING_KEY": key}
    with (
        desk(**settings) as near,
        desk(**settings) as far,
        near.start(QMODAL, "autoscaler") as autoscaler,
        far.start(*inside, QMODAL, "worker") as worker,
    ):
        client = Client(Settings.from_environ({**settings, "QMODAL_HOME": str(near.base)}))
        try:
            yield Yard(near, far, client)
        finally:
            client.close()
        for process in (autoscaler, worker):
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=15)
            assert process.returncode == 0, output
        for each in (near, far):
            each.wait_until_empty()


@pytest.fixture(scope="module")
def shared_yard() -> Iterator[Yard]:
    """A worker on this machine, in another folder and with another home."""
    with run_server(server_binary()) as server, yard(server.url) as made:
        yield made


@pytest.fixture
def beside(shared_yard: Yard) -> Yard:
    """The shared yard, with this process as a caller."""
    clients.use(shared_yard.client)
    return shared_yard


@pytest.fixture
def apart() -> Iterator[Yard]:
    """A worker in a network of its own, which reaches nothing but the server's machine."""
    password = secrets.token_hex(16)
    with namespace() as (inside, address):
        options = ("--bind", address, "--port", "6399", "--requirepass", password)
        url = f"redis://:{password}@{address}:6399"
        with run_server(server_binary(), *options), yard(url, inside) as made:
            clients.use(made.client)
            yield made


@contextmanager
def namespace() -> Iterator[tuple[Command, str]]:
    """A network namespace that is joined to this one: how to run something in it, our address."""
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the program `ip`")
    suffix = secrets.token_hex(3)
    name, outer, inner = f"qm-{suffix}", f"qmo{suffix}", f"qmi{suffix}"
    if subprocess.run([ip, "netns", "add", name], check=False).returncode:
        pytest.skip("this machine does not allow network namespaces")
    inside = (ip, "netns", "exec", name)
    # Addresses for tests of networks; another network for each run on this machine.
    network = f"198.18.{secrets.randbelow(256)}"
    try:
        for command in (
            (ip, "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name),
            (ip, "addr", "add", f"{network}.1/30", "dev", outer),
            (ip, "link", "set", outer, "up"),
            (*inside, ip, "addr", "add", f"{network}.2/30", "dev", inner),
            (*inside, ip, "link", "set", inner, "up"),
            (*inside, ip, "link", "set", "lo", "up"),
        ):
            subprocess.run(command, check=True)
        yield inside, f"{network}.1"
    finally:
        subprocess.run([ip, "netns", "del", name], check=True)


def deploy_and_lose_the_source(yard: Yard) -> None:
    yard.write(FILES)
    yard.deploy()
    shutil.rmtree(yard.source)


@pytest.mark.parametrize("where", ["beside", "apart"])
def test_a_worker_that_cannot_see_the_source_runs_what_was_deployed(
    request: pytest.FixtureRequest, where: str
) -> None:
    yard: Yard = request.getfixturevalue(where)
    deploy_and_lose_the_source(yard)
    offer = qmodal.Function.from_name("shop", "offer")
    call = offer.spawn(1)
    name, price, joke, folder = call.get(timeout=20)
    assert (name, price, joke) == ("pear", 3, "knock")
    assert Path(folder) == yard.far.base
    assert not yard.source.exists()


def test_a_redeploy_replaces_containers_and_loses_no_call(beside: Yard) -> None:
    deploy_and_lose_the_source(beside)
    version = qmodal.Function.from_name("shop", "version")
    before = version.spawn_map(range(300))
    results = [before.get(timeout=20, index=0)]
    beside.write({**FILES, "prices.py": "PRICE = 4\nVERSION = 2\n"})
    number = beside.deploy()
    results += [before.get(timeout=20, index=n) for n in range(1, 300)]

    def is_replaced() -> bool:
        after = version.spawn_map(range(20))
        results.extend(after.get(timeout=20, index=n) for n in range(20))
        return results[-1:] == [2]

    wait_until(is_replaced, what="the new code runs", seconds=20)
    assert (results[0], set(results)) == (1, {1, 2})
    wait_until(lambda: beside.versions("version") == {number}, what="old containers have gone")
    assert version.remote(0) == 2
    assert qmodal.Function.from_name("shop", "offer").remote(0)[:2] == ("apple", 4)


def test_a_serialized_function_needs_no_file(beside: Yard) -> None:
    beside.write({"nested.py": NESTED})
    beside.near.run(QMODAL.with_name("python"), beside.source / "nested.py")
    shutil.rmtree(beside.source)
    assert qmodal.Function.from_name("nested", "add").remote(2) == 42


def test_a_dry_run_lists_what_would_go_and_needs_no_server() -> None:
    with desk() as here:
        made = Yard(here, here)
        made.write(FILES)
        *lines, total = here.run(
            QMODAL, "deploy", "--dry-run", made.source / "shop.py"
        ).splitlines()
    listed = {line.split()[-1] for line in lines}
    assert listed == set(FILES) - {"unrelated.py"}
    assert total.startswith("6 files")

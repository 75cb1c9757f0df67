"""Fixtures that tests of several folders share: a server of this process, settings, a client.

The suite runs in several processes, as most of its tests wait most of their time. Each has a server of
its own; `-n 0` runs all in one, as a debugger needs it.
"""

from __future__ import annotations

import compileall
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

# Before they are imported: their assertions hold in an interpreter that strips others, too.
pytest.register_assert_rewrite("tests.model", "tests.support")

from qmodal.client import process
from qmodal.client.client import Client
from qmodal.config import Settings
from tests.support.boxes import Box, Fleet
from tests.support.hardware.gpus import built
from tests.support.servers import (
    TestServer,
    delete_keys,
    leftovers,
    no_process_left,
    run_server,
    server_binary,
)
from tests.support.store.bench import Bench
from tests.support.turns import turn

PASSED = pytest.StashKey[bool]()
# Tests use a third of a processor each: they start processes and wait for what these do.
PROCESSES_PER_CPU, MOST_PROCESSES = 2, 8
TURNS = "QMODAL_TEST_TURNS"
# What the processes that tests start import.
PROGRAMS = ("qmodal", "workers", "autoscaler", "benchmarks")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes `-n auto` means."""
    return min(MOST_PROCESSES, PROCESSES_PER_CPU * (os.cpu_count() or 1))


def pytest_configure(config: pytest.Config) -> None:
    """The process that starts the others makes the folder by which they take turns, and bytecode.

    Where PYTHONDONTWRITEBYTECODE is set, each process that tests start would compile qmodal for
    itself, which takes it about as long as everything else until it is up.
    """
    _hear_signals()
    if TURNS not in os.environ:
        for name in PROGRAMS:
            compileall.compile_dir(config.rootpath / name, quiet=2)
        folder = tempfile.TemporaryDirectory(prefix="qm-turns-")
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(partial(os.environ.__delitem__, TURNS))
        os.environ[TURNS] = folder.name


def _hear_signals() -> None:
    """A shell has its jobs in the background ignore these, and their children, too: tests send them."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Test modules and what they import are compiled once, also under PYTHONDONTWRITEBYTECODE.

    Not so the programs that tests write: two that follow each other within a second would be taken for one.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Tests share the machine, and those that are marked `alone` have it for themselves.

    Held around the whole test: the time limit of a test does not count while it waits for its turn.
    """
    with turn(Path(os.environ[TURNS]), alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep whether the test passed: what a failed one leaves behind is no news."""
    report = yield
    if call.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture(scope="session")
def server() -> Iterator[TestServer]:
    """A server that lives as long as the session; QMODAL_TEST_SERVER names another binary."""
    with run_server(server_binary()) as running:
        yield running


@pytest.fixture
def settings(server: TestServer, tmp_path: Path) -> Settings:
    """Settings with a prefix of their own, so that tests do not see each other's keys."""
    return Settings(
        redis_url=server.url,
        signing_key=secrets.token_bytes(32),
        prefix="t" + secrets.token_hex(4),
        home=tmp_path,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client of the session's server."""
    made = Client(settings)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """The client of the process, and whatever else it has once, is the same after a test as before."""
    with process.preserved():
        yield


@pytest.fixture(autouse=True)
def tidy_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test leaves behind has a lifetime; `leaves_keys` marks those that stop midway."""
    if "server" not in request.fixturenames:
        yield
        return
    settings: Settings = request.getfixturevalue("settings")
    server: TestServer = request.getfixturevalue("server")
    yield
    with redis.Redis.from_url(server.url, single_connection_client=True) as plain:
        left = leftovers(plain, settings.prefix)
        delete_keys(plain, settings.prefix)
    is_excused = request.node.get_closest_marker("leaves_keys") is not None
    if not is_excused and request.node.stash.get(PASSED, False):
        assert not left, f"{len(left)} keys that nobody would ever delete: {left[:20]}"


@pytest.fixture
def bench(client: Client) -> Iterator[Bench]:
    """A pool to try transitions on; cleared afterwards, so that nothing may be left."""
    made = Bench(client)
    yield made
    if made.ask(b"HEXISTS", client.keys.pool(made.pool), b"app"):
        made.clear()


@pytest.fixture
def fleet(client: Client) -> Fleet:
    """Boxes on the test's own keys."""
    return Fleet(client)


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a library that answers like NVIDIA's, from a file (`tests/support/hardware/gpus.py`)."""
    return built(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def box(fleet: Fleet) -> Iterator[Box]:
    """One worker; nothing of it is left afterwards."""
    with no_process_left(), fleet.box() as made:
        yield made

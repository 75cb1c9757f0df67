"""What a server refuses because of its own settings: waited out if it may pass, and named if it does not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import (
    ConfigurationError,
    ConnectionError,
    EnqueueError,
    Error,
    RequestSizeError,
)
from qmodal.transport.connection import Address
from qmodal.transport.operation import Exchange, ask_one
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.store.bench import Bench
from tests.support.store.driving import DRIVERS, Background, Driven
from tests.support.waiting import wait_until

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def own() -> Iterator[TestServer]:
    """A server to set otherwise."""
    with run_server(server_binary()) as running:
        yield running


@pytest.fixture(params=list(DRIVERS))
def driver(request: pytest.FixtureRequest, own: TestServer) -> Iterator[Driven]:
    """A driver of it, not connected."""
    made = DRIVERS[request.param](Address(own.url))
    yield made
    made.close()


@pytest.fixture
def bench(own: TestServer) -> Iterator[Bench]:
    """A pool on it."""
    client = Client(Settings(redis_url=own.url, signing_key=bytes(32)))
    yield Bench(client)
    with own.plain() as plain:
        plain.flushall()
    client.close()


@pytest.fixture
def background() -> Iterator[Background]:
    """A thread to wait in."""
    made = Background()
    yield made
    made.close()


def errors(own: TestServer, word: str) -> int:
    with own.plain() as plain:
        return int(plain.info("errorstats").get(f"errorstat_{word}", {}).get("count", 0))


def test_a_server_without_a_place_for_another_client_is_waited_for(
    driver: Driven, own: TestServer, background: Background
) -> None:
    with own.plain() as plain, ExitStack() as places:
        (limit,) = plain.config_get("maxclients").values()
        # The server may not have seen yet that those of the last test have gone.
        wait_until(
            lambda: plain.info("clients")["connected_clients"] == 1, what="nobody else is there"
        )
        plain.config_set("maxclients", 1)
        places.callback(plain.config_set, "maxclients", limit)
        brief = Exchange(((b"PING",),), patience=0.05)
        with pytest.raises(ConnectionError, match=r"is not ready.*max number of.*CONFIG SET maxcl"):
            driver.exchange(brief)
        waiting = background.start(driver.run, ask_one(b"PING"))
        before = plain.info("stats")["rejected_connections"]
        wait_until(lambda: plain.info("stats")["rejected_connections"] > before, what="another try")
        places.close()
        assert waiting.result(5) == b"PONG"


def test_a_server_that_lacks_a_replica_is_waited_for(
    driver: Driven, own: TestServer, bench: Bench, background: Background
) -> None:
    with own.configured(min_replicas_to_write="1"):
        submitted = background.start(driver.run, bench.client.calls.submit(bench.submission()))
        before = errors(own, "NOREPLICAS")
        wait_until(lambda: errors(own, "NOREPLICAS") > before + 1, what="another try")
        brief = Exchange(((b"SET", b"k", b"v"),), patience=0.0)
        with pytest.raises(EnqueueError, match="nothing was accepted: NOREPLICAS"):
            bench.client.blocking.exchange(brief)
    submitted.result(5)
    assert bench.inflight() == 1


@pytest.mark.parametrize("setting", ["proto_max_bulk_len", "client_query_buffer_limit"])
def test_a_request_that_is_too_large_for_the_server_says_which_limit_it_is(
    driver: Driven, own: TestServer, bench: Bench, setting: str
) -> None:
    submission = bench.submission(blobs=[(0, bytes(4 * MEGABYTE))])
    with own.configured(**{setting: str(MEGABYTE)}):
        begun = time.monotonic()
        with pytest.raises(RequestSizeError, match=setting.replace("_", "-")):
            driver.run(bench.client.calls.submit(submission))
        assert time.monotonic() - begun < 10
    assert driver.run(ask_one(b"PING")) == b"PONG"


def test_a_cluster_that_forms_is_waited_for_and_then_refused() -> None:
    with run_server(server_binary(), "--cluster-enabled", "yes") as node:
        for make in DRIVERS.values():
            driver = make(Address(node.url))
            with pytest.raises(ConfigurationError, match=r"is a Redis Cluster \(CLUSTERDOWN"):
                driver.exchange(Exchange(((b"SET", b"k", b"v"),), patience=0.0))
            driver.close()


@pytest.mark.parametrize("make", list(DRIVERS))
def test_what_a_server_says_before_it_hangs_up_is_told(make: str) -> None:
    """A stand-in: how much of this arrives from a real server is a matter of luck."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        background = Background()
        said = b"-DENIED Redis is running in protected mode\r\n"
        served = background.start(_say, listener, said)
        driver = DRIVERS[make](Address(f"redis://127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(Error, match="protected mode"):
            driver.run(ask_one(b"PING"))
        served.result(5)
        driver.close()
        background.close()


def _say(listener: socket.socket, text: bytes) -> None:
    peer, _ = listener.accept()
    with peer:
        peer.sendall(text)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass

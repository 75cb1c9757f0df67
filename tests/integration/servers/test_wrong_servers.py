"""Servers that are not there, not ours or not fit: an error at once that says what to do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import ConfigurationError, ConnectionError
from qmodal.store.server import check_server, check_version
from qmodal.transport.connection import Address
from qmodal.transport.driver import BlockingDriver
from qmodal.transport.operation import Exchange, ask_one
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.store.driving import DRIVERS, before_step

AT_ONCE = 5.0  # seconds; a server that may come back is waited for for twenty
PING = Exchange(((b"PING",),), patience=0.05)


@pytest.fixture(params=list(DRIVERS))
def make(request: pytest.FixtureRequest) -> str:
    """The name of a driver."""
    name: str = request.param
    return name


@pytest.mark.parametrize(
    "url", ["unix:///nowhere/socket", "redis://127.0.0.1:1/0", "redis://:secret@127.0.0.1:1"]
)
def test_a_server_that_is_not_there_is_named_without_its_password(make: str, url: str) -> None:
    driver = DRIVERS[make](Address(url))
    with pytest.raises(ConnectionError, match=r"cannot be reached.*QMODAL_REDIS_URL") as failure:
        driver.exchange(PING)
    assert "secret" not in str(failure.value)
    driver.close()


def test_a_client_gives_up_a_missing_server_within_seconds(tmp_path: Path) -> None:
    client = Client(Settings(redis_url=f"unix://{tmp_path}/none", signing_key=bytes(32)))
    begun = time.monotonic()
    with pytest.raises(ConnectionError):
        client.run(ask_one(b"PING"))
    assert time.monotonic() - begun < 15
    client.close()


def test_something_else_than_redis_is_an_error(make: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_speak_http, args=(listener,))
        thread.start()
        driver = DRIVERS[make](Address(f"redis://127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(ConnectionError, match="cannot be reached"):
            driver.exchange(Exchange(((b"PING",),), patience=0))
        driver.close()
        thread.join()


def _speak_http(listener: socket.socket) -> None:
    peer, _ = listener.accept()
    with peer:
        peer.recv(1000)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture(scope="module")
def guarded() -> Iterator[TestServer]:
    """A server with a password, a user who may do little, and few databases."""
    with run_server(server_binary(), "--requirepass", "right") as running:
        with redis.Redis.from_url(running.url, password="right") as plain:
            plain.execute_command(
                *("ACL", "SETUSER", "guest", "on", ">pass", "~other:*"),
                *("+@connection", "+script", "+evalsha", "+info", "+get"),
            )
        yield running


@pytest.mark.parametrize(
    ("login", "command", "sentence"),
    [
        ("unix://{}", (b"PING",), "Check the user and password"),
        ("unix://:wrong@{}", (b"PING",), "Check the user and password"),
        ("unix://nobody:pass@{}", (b"PING",), "Check the user and password"),
        ("unix://guest:pass@{}", (b"GET", b"qmodal:x"), "the ACL allows"),
        ("unix://guest:pass@{}", (b"HGETALL", b"other:x"), "the ACL allows"),
        ("unix://:right@{}?db=99", (b"PING",), "database number"),
    ],
    ids=["no password", "wrong password", "no such user", "foreign key", "command", "database"],
)
def test_a_server_that_does_not_let_us_in_says_so_at_once(
    make: str, guarded: TestServer, login: str, command: tuple[bytes, ...], sentence: str
) -> None:
    driver = DRIVERS[make](Address(login.format(guarded.url.removeprefix("unix://"))))
    begun = time.monotonic()
    with pytest.raises(ConfigurationError, match=sentence):
        driver.run(ask_one(*command))
    assert time.monotonic() - begun < AT_ONCE
    driver.close()


def test_a_script_beyond_the_users_rights_says_so(make: str, guarded: TestServer) -> None:
    path = guarded.url.removeprefix("unix://")
    settings = Settings(
        redis_url=f"unix://guest:pass@{path}", signing_key=bytes(32), prefix="other"
    )
    driver = DRIVERS[make](Address(settings.redis_url or ""))
    with pytest.raises(ConfigurationError, match="the ACL allows"):
        driver.run(Client(settings).fleet.sweep({}))
    driver.close()


@pytest.mark.parametrize("version", ["6.2.14", "2.8", "", "6.9-rc1"])
def test_a_server_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError, match=r"needs Redis 7\.0 or Valkey 8"):
        check_version({"redis_version": version} if version else {})


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.6", "10.0.1-dev"])
def test_a_server_that_is_new_enough_passes(version: str) -> None:
    check_version({"redis_version": version})


def test_a_server_that_evicts_is_refused(client: Client, server: TestServer) -> None:
    advice = "CONFIG SET maxmemory-policy noeviction"
    evicting = server.configured(maxmemory_policy="allkeys-lru")
    with evicting, pytest.raises(ConfigurationError, match=advice):
        client.run(ask_one(b"PING"))
    assert client.run(ask_one(b"PING")) == b"PONG"


def test_a_foreign_signing_key_is_refused(client: Client, settings: Settings) -> None:
    client.run(ask_one(b"PING"))
    foreign = Client(
        Settings(redis_url=settings.redis_url, prefix=settings.prefix, signing_key=b"f" * 32)
    )
    with pytest.raises(ConfigurationError, match="set QMODAL_SIGNING_KEY"):
        foreign.run(ask_one(b"PING"))
    foreign.close()
    friend = Client(settings)
    assert friend.run(ask_one(b"PING")) == b"PONG"
    friend.close()


@pytest.mark.parametrize("step", range(3))
def test_of_two_keys_that_meet_an_empty_server_at_once_one_is_refused(
    client: Client, settings: Settings, step: int
) -> None:
    driver = BlockingDriver(Address(settings.redis_url or ""))
    other = Client(replace(settings, signing_key=b"another key, and long enough"))

    def come_first() -> None:
        other.run(ask_one(b"PING"))

    def come() -> None:
        check = check_server(client.keys, key_id="00", fingerprint="ff")
        driver.run(before_step(check, step, come_first))

    refused = 0
    for each in (come, come_first):
        try:
            each()
        except ConfigurationError as error:
            assert "another signing key" in str(error)
            refused += 1
    assert refused == 1
    assert len(driver.exchange(Exchange(((b"HKEYS", client.keys.signing),)))[0]) == 1
    driver.close()
    other.close()

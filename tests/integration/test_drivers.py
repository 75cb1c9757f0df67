"""The blocking and the asyncio driver, side by side: what they hide, and what they tell."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from qmodal.client import Client
from qmodal.exception import ConfigurationError, ConnectionError, EnqueueError, Error
from qmodal.settings import Settings
from qmodal.store import line as line_module
from qmodal.store.calls import UnknownPoolError
from qmodal.store.exchange import Exchange, Op, ask, ask_one
from qmodal.store.keys import pool_id
from qmodal.store.line import Address
from qmodal.store.server import check_version
from tests.bench import Bench
from tests.driving import DRIVERS, Background, Driven
from tests.servers import TestServer, run_server, server_binary
from tests.support import wait_until

AT_ONCE = 0.3
PING = Exchange(((b"PING",),), patience=0.05)


@pytest.fixture(params=list(DRIVERS))
def make(request: pytest.FixtureRequest) -> str:
    """The name of a driver."""
    name: str = request.param
    return name


@pytest.fixture
def driver(make: str, server: TestServer) -> Iterator[Driven]:
    """A driver of the session's server."""
    made = DRIVERS[make](Address(server.url))
    yield made
    made.close()


@pytest.fixture
def background() -> Iterator[Background]:
    """A thread to wait in."""
    made = Background()
    yield made
    made.close()


def connection(driver: Driven) -> int:
    """The server's id of the connection that the driver uses next."""
    return int(driver.run(ask_one(b"CLIENT", b"ID")))


def blocked(bench: Bench, *, command: str = "xread") -> int | None:
    """The id of a connection that waits in a blocking command."""
    for about in bench.ask(b"CLIENT", b"LIST").decode().splitlines():
        fields = dict(pair.partition("=")[::2] for pair in about.split(" "))
        if "b" in fields["flags"] and fields["cmd"] == command:
            return int(fields["id"])
    return None


def test_scripts_that_the_server_forgot_are_loaded_again(driver: Driven, bench: Bench) -> None:
    for _ in range(2):
        bench.ask(b"SCRIPT", b"FLUSH")
        submission = bench.submission()
        driver.run(bench.client.calls.submit(submission))
        assert bench.record(submission.call).submitted == 1


def test_a_connection_lost_between_calls_is_not_noticed(driver: Driven, bench: Bench) -> None:
    before = connection(driver)
    assert connection(driver) == before, "a connection is used again"
    bench.ask(b"CLIENT", b"KILL", b"ID", before)
    driver.run(bench.client.calls.submit(bench.submission()))
    assert connection(driver) != before
    assert bench.inflight() == 1


def test_a_connection_lost_while_waiting_is_not_noticed(
    driver: Driven, bench: Bench, background: Background
) -> None:
    submission = bench.submission()
    waiting = background.start(driver.run, bench.client.calls.request(submission, block=4000))
    first = wait_until(lambda: blocked(bench), what="a waiter")
    bench.ask(b"CLIENT", b"KILL", b"ID", first)
    wait_until(lambda: blocked(bench) not in (None, first), what="a waiter on a new connection")
    assert bench.inflight() == 1
    bench.settle(*bench.claim())
    (output,) = waiting.result(5)
    assert output.signed == b"done"


def test_submit_and_wait_take_one_round_trip(
    driver: Driven, bench: Bench, background: Background
) -> None:
    waiting = background.start(
        driver.run, bench.client.calls.request(bench.submission(blobs=[(0, b"big")]), block=4000)
    )
    wait_until(lambda: blocked(bench), what="a waiter")
    bench.settle(*bench.claim(), has_blob=True)
    assert [output.signed for output in waiting.result(5)] == [b"done"]


def test_waiting_for_a_refused_submit_ends_at_once(driver: Driven, bench: Bench) -> None:
    unknown = bench.submission(pool=pool_id("ap-x", "unknown", b""))
    connection(driver)
    begun = time.monotonic()
    with pytest.raises(UnknownPoolError):
        driver.run(bench.client.calls.request(unknown, block=4000))
    assert time.monotonic() - begun < AT_ONCE
    assert driver.run(ask_one(b"PING")) == b"PONG"


@pytest.mark.parametrize("blobs", [(), [(0, b"big")]], ids=["inline", "with a blob"])
def test_waiting_on_a_full_server_ends_at_once(
    driver: Driven, bench: Bench, server: TestServer, blobs: list[tuple[int, bytes]]
) -> None:
    connection(driver)
    with server.full():
        begun = time.monotonic()
        with pytest.raises(EnqueueError, match="nothing was accepted"):
            driver.run(bench.client.calls.request(bench.submission(blobs=blobs), block=4000))
    assert time.monotonic() - begun < AT_ONCE


def test_waiting_starts_anew_at_once_when_the_script_was_forgotten(
    driver: Driven, bench: Bench
) -> None:
    connection(driver)
    bench.ask(b"SCRIPT", b"FLUSH")
    begun = time.monotonic()
    assert driver.run(bench.client.calls.request(bench.submission(), block=500)) == []
    assert time.monotonic() - begun < 0.5 + AT_ONCE


def test_a_stall_of_the_server_leaves_one_entry_however_often_it_is_asked(
    make: str,
    bench: Bench,
    server: TestServer,
    background: Background,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_module, "READ_SECONDS", 0.4)
    impatient = DRIVERS[make](Address(server.url))
    connection(impatient)
    submission = bench.submission(3)
    with server.frozen():
        submitted = background.start(impatient.run, bench.client.calls.submit(submission))
        threading.Event().wait(2.0)  # the stall itself: nothing can be asked meanwhile
        assert not submitted.done()
    submitted.result(5)
    assert bench.inflight() == 3
    assert len(bench.claim(count=10)) == 3
    impatient.close()


def test_a_waiter_survives_that_its_server_becomes_a_replica_for_a_while(
    make: str, background: Background
) -> None:
    with run_server(server_binary()) as own:
        client = Client(Settings(redis_url=own.url, signing_key=bytes(32)))
        bench = Bench(client)
        driver = DRIVERS[make](Address(own.url))
        waiting = background.start(driver.run, client.calls.request(bench.submission(), block=4000))
        first = wait_until(lambda: blocked(bench), what="a waiter")
        bench.ask(b"REPLICAOF", b"127.0.0.1", 1)
        wait_until(lambda: blocked(bench) not in (None, first), what="a new connection")
        bench.ask(b"REPLICAOF", b"NO", b"ONE")
        bench.settle(*bench.claim())
        assert len(waiting.result(5)) == 1
        driver.close()
        client.close()


def test_what_was_put_off_goes_along_with_the_next_write(
    driver: Driven, bench: Bench, settings: Settings
) -> None:
    key = f"{settings.prefix}:later"
    driver.later((b"INCR", key))
    driver.later((b"NONSENSE",))  # nobody reads the reply
    assert driver.run(ask_one(b"PING")) == b"PONG"
    assert bench.ask(b"GET", key) == b"1"
    assert driver.run(ask(*((b"ECHO", n) for n in range(3)))) == [b"0", b"1", b"2"]
    bench.ask(b"DEL", key)


def test_closing_sends_what_was_put_off_however_much(
    make: str, bench: Bench, server: TestServer
) -> None:
    driver = DRIVERS[make](Address(server.url))
    for _ in range(250):
        driver.later((b"INCR", b"late"))
    driver.close()
    assert bench.ask(b"GETDEL", b"late") == b"250"


def test_threads_share_a_driver(bench: Bench) -> None:
    driver = bench.client.blocking
    failures: list[object] = []

    def echo(name: int) -> None:
        for number in range(100):
            driver.later((b"PING",))
            text = b"%d %d" % (name, number)
            if driver.run(ask_one(b"ECHO", text)) != text:
                failures.append(text)

    threads = [threading.Thread(target=echo, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_parent_and_child_of_a_fork_use_the_same_client(bench: Bench) -> None:
    client = bench.client
    before = client.run(ask_one(b"CLIENT", b"ID"))
    client.later((b"SET", b"of the parent", b"1"))
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ids = {client.run(ask_one(b"CLIENT", b"ID")) for _ in range(2)}
            own = client.run(ask_one(b"EXISTS", b"of the parent")) == 0 and before not in ids
            os.write(writable, b"good" if own and len(ids) == 1 else b"bad")
        finally:
            os._exit(0)
    os.close(writable)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(readable, "rb") as pipe:
        assert pipe.read() == b"good"
    assert client.run(ask_one(b"CLIENT", b"ID")) == before
    assert bench.ask(b"DEL", b"of the parent") == 1


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
    assert time.monotonic() - begun < 4
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
        driver.run(Client(settings).fleet.sweep())
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


def test_an_operation_may_catch_what_goes_wrong_in_it(driver: Driven) -> None:
    def careful() -> Op[str]:
        try:
            yield Exchange(((b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", b"none", b">"),))
        except Error as error:
            return type(error).__name__
        return "nothing"

    assert driver.run(careful()) == "StreamGoneError"
    assert driver.run(ask_one(b"PING")) == b"PONG"


def test_a_submit_waits_until_its_server_takes_writes_again(
    make: str, background: Background
) -> None:
    with run_server(server_binary()) as own:
        client = Client(Settings(redis_url=own.url, signing_key=bytes(32)))
        bench = Bench(client)
        driver = DRIVERS[make](Address(own.url))
        bench.ask(b"REPLICAOF", b"127.0.0.1", 1)
        submitted = background.start(driver.run, client.calls.submit(bench.submission()))
        wait_until(lambda: refusals(bench) > 1, what="a second try")
        bench.ask(b"REPLICAOF", b"NO", b"ONE")
        submitted.result(5)
        assert bench.inflight() == 1
        driver.close()
        client.close()


def refusals(bench: Bench) -> int:
    """How often the server has answered READONLY."""
    stats = bench.ask(b"INFO", b"errorstats").decode()
    found = [line for line in stats.splitlines() if line.startswith("errorstat_READONLY")]
    return int(found[0].partition("count=")[2]) if found else 0

"""The blocking and the asyncio driver, side by side: what they hide, and what they tell."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import EnqueueError, Error
from qmodal.store.calls import UnknownPoolError
from qmodal.transport import aio_connection, connection as plain_connection
from qmodal.transport.connection import Address
from qmodal.transport.operation import Exchange, Op, ask, ask_one
from qmodal.wire.ids import pool_id
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.store.bench import Bench
from tests.support.store.driving import DRIVERS, Background, Driven
from tests.support.waiting import wait_until

AT_ONCE = 2.0  # seconds; who waits for what was refused waits for four
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


def asked(bench: Bench) -> int:
    """How many scripts the server was asked to run."""
    return int(bench.ask(b"INFO", b"commandstats").partition(b"evalsha:calls=")[2].split(b",")[0])


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
    driver: Driven, bench: Bench, background: Background
) -> None:
    connection(driver)
    bench.ask(b"SCRIPT", b"FLUSH")
    request = bench.client.calls.request(bench.submission(), block=4000)
    waiting = background.start(driver.run, request)
    wait_until(lambda: bench.inflight() == 1, what="it is accepted", seconds=AT_ONCE)
    bench.settle(*bench.claim())
    assert len(waiting.result(5)) == 1


def test_a_stall_of_the_server_leaves_one_entry_however_often_it_is_asked(
    make: str,
    bench: Bench,
    server: TestServer,
    background: Background,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (plain_connection, aio_connection):
        monkeypatch.setattr(module, "READ_SECONDS", 0.2)
    impatient = DRIVERS[make](Address(server.url))
    connection(impatient)
    submission, before = bench.submission(3), asked(bench)
    with server.frozen():
        submitted = background.start(impatient.run, bench.client.calls.submit(submission))
        threading.Event().wait(0.9)  # the stall itself: nothing can be asked meanwhile
        assert not submitted.done()
    submitted.result(10)
    wait_until(lambda: asked(bench) > before + 1, what="all that was asked is answered")
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
        wait_until(lambda: blocked(bench), what="a waiter")
        bench.ask(b"REPLICAOF", b"127.0.0.1", 1)
        wait_until(lambda: refusals(bench) > 1, what="another try")
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


def test_what_was_put_off_survives_a_lost_connection(driver: Driven, bench: Bench) -> None:
    before = connection(driver)
    for number in range(3):
        driver.later((b"RPUSH", b"put off", number))
    bench.ask(b"CLIENT", b"KILL", b"ID", before)
    assert driver.run(ask_one(b"PING")) == b"PONG"
    assert bench.ask(b"LRANGE", b"put off", 0, -1) == [b"0", b"1", b"2"]
    bench.ask(b"DEL", b"put off")


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

"""The sending side of a generator, alone: what it does when the server or the input is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import InternalFailure, SerializationError
from qmodal.store.results.items import ROOM
from qmodal.wire.item import open_item
from qmodal.wire.signing import mac_of
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.item_sender import ABANDON_SECONDS, ItemSender
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.store.bench import Bench
from tests.support.store.envelopes import envelope_of
from tests.support.waiting import wait_until


def emitter_of(bench: Bench) -> tuple[str, ItemSender]:
    """A call that `ta-a-1` runs, and what sends its items."""
    call = bench.submit(1, envelopes=[bytes(40)])
    (claimed,) = bench.claim()
    envelope = envelope_of(pool=bench.pool, call=call)
    attempt = Attempt(claimed, envelope, b"")
    sender = ItemSender(bench.client, attempt, pool=bench.pool, container="ta-a-1", plain_only=True)
    return call, sender


def oom_errors(plain: redis.Redis) -> int:
    """How often the server has refused a write for want of memory."""
    return int(plain.info("errorstats").get("errorstat_OOM", {}).get("count", 0))


def numbers(bench: Bench, call: str) -> list[int]:
    """The numbers of the items that the server has."""
    signer, request = bench.client.signer, mac_of(bytes(40))
    return [
        open_item(item, signer, call=call, index=0, request=request).number
        for _, _, item in bench.outputs(call)
    ]


def test_the_first_item_is_there_before_the_generator_goes_on(bench: Bench) -> None:
    call, emitter = emitter_of(bench)
    emitter.put("first")
    emitter.wait()
    assert numbers(bench, call) == [0]
    emitter.stop()


def test_quick_items_are_all_there_after_finish(bench: Bench) -> None:
    call, emitter = emitter_of(bench)
    for n in range(900):
        emitter.put(n)
        emitter.wait()
    emitter.finish()
    emitter.stop()
    assert numbers(bench, call) == list(range(900))


def test_a_generator_that_is_stopped_does_not_wait_for_a_reader(bench: Bench) -> None:
    call, emitter = emitter_of(bench)
    for n in range(ROOM + 100):
        emitter.put(n)
    began = time.monotonic()
    emitter.stop()
    assert ABANDON_SECONDS <= time.monotonic() - began < ABANDON_SECONDS * 8
    bench.client.run(bench.client.items.close(call))


def test_an_input_that_was_taken_away_is_noticed(bench: Bench) -> None:
    call, emitter = emitter_of(bench)
    bench.client.run(bench.client.calls.cancel(call))
    emitter.put(0)
    emitter.wait()
    emitter.finish()
    assert emitter.verdict == "STALE"
    emitter.put(1)
    emitter.stop()
    assert emitter.count == 2


def test_what_cannot_travel_is_told_and_not_counted(bench: Bench) -> None:
    _, emitter = emitter_of(bench)
    with pytest.raises(SerializationError):
        emitter.put(object())
    emitter.finish()
    emitter.stop()
    assert emitter.count == 0


@pytest.fixture(scope="module")
def own_server() -> Iterator[TestServer]:
    """A server that no other test needs to write to."""
    with run_server(server_binary()) as running:
        yield running


@pytest.mark.parametrize("size", [1, 2_000_000])
def test_items_wait_while_the_server_is_full(own_server: TestServer, size: int) -> None:
    client = Client(Settings(redis_url=own_server.url, signing_key=bytes(32)))
    bench = Bench(client)
    call, emitter = emitter_of(bench)
    bench.ask(b"CONFIG", b"RESETSTAT")
    with own_server.full():
        emitter.put(bytes(size))
        wait_until(lambda: b"_OOM:" in bench.ask(b"INFO", b"errorstats"), what="a refusal")
        assert bench.outputs(call) == []
    emitter.finish()
    wait_until(lambda: numbers(bench, call) == [0], what="the item on the server")
    emitter.stop()
    client.close()
    bench.line.close()


def test_items_that_nothing_mends_end_their_generator(bench: Bench) -> None:
    call, emitter = emitter_of(bench)
    bench.ask(b"SET", bench.client.keys.outputs(call), b"no stream")
    emitter.put("first")
    emitter.wait()
    for told in (emitter.check, emitter.finish):
        with pytest.raises(InternalFailure, match="WRONGTYPE"):
            told()
    emitter.stop()
    bench.ask(b"DEL", bench.client.keys.outputs(call))


def test_a_generator_that_waits_for_memory_says_so_once(
    bench: Bench,
    server: TestServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qmodal_workers.container.run.item_sender.REPEAT_SECONDS", 0.01)
    call, emitter = emitter_of(bench)
    with server.configured(maxmemory="1"), server.plain() as plain:
        plain.config_resetstat()
        emitter.put("first")
        wait_until(lambda: oom_errors(plain) > 2, what="it is refused again and again")
    emitter.wait()
    emitter.stop()
    assert numbers(bench, call) == [0]
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be stored yet" in line
    assert "maxmemory" in line

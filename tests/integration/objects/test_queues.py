"""Queue: order, partitions, waiting, limits and lifetimes, as Modal has them."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import qmodal
from qmodal.client.client import Client
from qmodal.exception import (
    InvalidError,
    NotFoundError,
    RequestSizeError,
    ResourceExhaustedError,
)
from qmodal.store.objects import queues
from qmodal.store.objects.queues import MOST_PARTITION_BYTES, PutItems
from qmodal.transport.operation import ask_one
from tests.support.waiting import wait_until

Act = Callable[[], object]


def waiting(client: Client) -> int:
    """How many clients wait for something on the server."""
    said = client.run(ask_one(b"INFO", b"clients")).decode()
    return int(said.partition("blocked_clients:")[2].split()[0])


async def until(client: Client, count: int) -> None:
    """Until so many wait."""
    await asyncio.to_thread(wait_until, lambda: waiting(client) == count, what=f"{count} wait")


def test_items_come_out_in_the_order_in_which_they_were_put(q: qmodal.Queue) -> None:
    q.put("a")
    q.put_many(["b", {"c": 3}, None])
    q.put_many([])
    assert q.len() == 4
    assert q.get() == "a"
    assert q.get_many(10) == ["b", {"c": 3}, None]
    assert q.get_many(0) == []


def test_partitions_are_queues_of_their_own(q: qmodal.Queue) -> None:
    q.put("unnamed")
    q.put("named", partition="p")
    q.put("other", partition="ü" * 32)
    assert (q.len(), q.len(partition="p"), q.len(total=True)) == (1, 1, 3)
    assert q.get(partition="p") == "named"
    assert q.get(partition="p", block=False) is None
    q.clear()
    assert q.len(total=True) == 1
    q.clear(all=True)
    assert q.len(total=True) == 0


def test_who_does_not_wait_gets_nothing(q: qmodal.Queue) -> None:
    assert q.get(block=False) is None
    assert q.get_many(3, block=False) == []
    for timeout in (0, 0.05):
        with pytest.raises(queue.Empty):
            q.get(timeout=timeout)
        with pytest.raises(queue.Empty):
            q.get_many(2, timeout=timeout)
    q.put(1)
    assert q.get(timeout=0) == 1
    acts: list[Act] = [lambda: q.get(False, 1), lambda: q.put(1, False, 1)]
    for act in acts:
        with pytest.warns(UserWarning, match="Timeout is ignored for non-blocking"):
            act()


@pytest.mark.parametrize("key", ["", "x" * 65, "ü" * 33])
def test_names_of_partitions_have_a_length(q: qmodal.Queue, key: str) -> None:
    text = "Queue partition key must be between 1 and 64 characters."
    acts: list[Act] = [lambda: q.put(1, partition=key), lambda: q.len(partition=key)]
    for act in acts:
        with pytest.raises(InvalidError, match=text):
            act()


def test_contradictions_are_refused(q: qmodal.Queue) -> None:
    with pytest.raises(InvalidError, match="Partition must be None when requesting total length"):
        q.len(partition="p", total=True)
    with pytest.raises(InvalidError, match="Partition must be null when requesting to clear all"):
        q.clear(partition="p", all=True)
    for ttl in (0, 86_401):
        with pytest.raises(InvalidError, match="partition_ttl"):
            q.put(1, partition_ttl=ttl)
    with pytest.raises(InvalidError, match="n_values"):
        q.get_many(-1)


def test_a_get_waits_for_a_put(client: Client, q: qmodal.Queue) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(q.get_many(5, timeout=60)))
    thread.start()
    wait_until(lambda: waiting(client) == 1, what="it waits")
    q.put_many([1, 2])
    thread.join()
    assert found == [[1, 2]]


def test_tasks_that_wait_are_served_in_the_order_in_which_they_came(
    client: Client, q: qmodal.Queue
) -> None:
    async def race() -> list[Any]:
        tasks: list[asyncio.Task[Any]] = []
        for count in range(1, 21):
            tasks.append(asyncio.create_task(q.get.aio()))
            await until(client, count)
        await q.put_many.aio(list(range(20)))
        return await asyncio.gather(*tasks)

    assert asyncio.run(race()) == list(range(20))


def test_a_get_that_waits_for_longer_than_a_server_may_be_silent_keeps_its_place(
    client: Client, q: qmodal.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every reply has to come within some seconds otherwise; here within half a second."""
    from qmodal.transport import aio_connection, aio_driver, connection

    monkeypatch.setattr(connection, "BLOCK_SECONDS", 0.2)
    monkeypatch.setattr(connection, "READ_SECONDS", 0.5)
    monkeypatch.setattr(aio_driver, "BLOCK_SECONDS", 0.2)
    monkeypatch.setattr(aio_connection, "READ_SECONDS", 0.5)
    client.close()  # its connections have the old limits
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(("thread", q.get())))
    thread.start()
    wait_until(lambda: waiting(client) == 1, what="the thread waits")

    async def second() -> None:
        found.append(("task", await q.get.aio()))

    async def both() -> None:
        task = asyncio.create_task(second())
        await until(client, 2)
        begin = time.monotonic()
        await asyncio.to_thread(
            wait_until, lambda: time.monotonic() > begin + 1.2, what="both limits pass twice"
        )
        assert waiting(client) == 2
        await q.put.aio(1)
        await asyncio.to_thread(thread.join)
        await q.put.aio(2)
        await task

    asyncio.run(both())
    assert found == [("thread", 1), ("task", 2)]


def test_tasks_that_put_and_read_at_once_share_connections(
    client: Client, q: qmodal.Queue, d: qmodal.Dict
) -> None:
    def connections() -> int:
        said = client.run(ask_one(b"INFO", b"clients")).decode()
        return int(said.partition("connected_clients:")[2].split()[0])

    async def many() -> int:
        await asyncio.gather(*(q.put.aio(n) for n in range(200)))
        await asyncio.gather(*(d.put.aio(n, n) for n in range(200)))
        assert await asyncio.gather(*(d.get.aio(n) for n in range(200))) == [*range(200)]
        return await asyncio.to_thread(connections)

    before = connections()
    assert asyncio.run(many()) < before + 20
    assert sorted(q.get_many(500)) == list(range(200))


def test_a_task_that_is_cancelled_takes_nothing(client: Client, q: qmodal.Queue) -> None:
    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(q.get.aio(), 0.1)
        await until(client, 0)
        await q.put.aio(1)
        assert await q.get.aio() == 1

    asyncio.run(run())


def test_who_waits_for_a_queue_that_is_deleted_hears_of_it(client: Client) -> None:
    made = qmodal.Queue.from_name("short", create_if_missing=True).hydrate()
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            made.get()
        except NotFoundError as error:
            caught.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: waiting(client) == 3, what="they wait")
    qmodal.Queue.objects.delete("short")
    for thread in threads:
        thread.join(20)
    assert len(caught) == 3


def test_a_full_partition_takes_no_more(q: qmodal.Queue) -> None:
    q.put_many(list(range(5000)))
    acts: list[Act] = [lambda: q.put(1, block=False), lambda: q.put_many([1], timeout=0.05)]
    for act in acts:
        with pytest.raises(queue.Full, match="has no room for 1 more items"):
            act()
    with pytest.raises(queue.Full):
        q.put_many(list(range(5001)), partition="other")
    q.put(1, partition="other")
    assert q.get() == 0
    q.put(5000, block=False)
    assert q.get_many(6000) == list(range(1, 5001))


@pytest.fixture
def kept(client: Client) -> Iterator[qmodal.Queue]:
    """A queue with a name, into whose unnamed partition something was put: the next put takes few steps."""
    made = qmodal.Queue.from_name("kept", create_if_missing=True)
    made.put(0)
    assert client.queues.lately
    yield made
    qmodal.Queue.objects.delete("kept", allow_missing=True)


def test_puts_into_a_known_partition_have_the_same_limits(kept: qmodal.Queue) -> None:
    kept.put_many(list(range(1, 4999)))
    kept.put(4999, block=False)
    for _ in range(2):
        with pytest.raises(queue.Full, match="has no room for 1 more items"):
            kept.put("too many", block=False)
    assert list(kept.iterate()) == list(range(5000))
    assert kept.get() == 0
    kept.put(5000)
    assert kept.get_many(6000) == list(range(1, 5001))


def test_small_items_make_a_partition_hardly_larger_than_it_may_be(kept: qmodal.Queue) -> None:
    kept.put_many([bytes(1_000_000)] * 60, partition="p")
    left = MOST_PARTITION_BYTES - 60 * 1_000_000
    with pytest.raises(queue.Full):
        for _ in range(2000):
            kept.put(bytes(4000), partition="p", block=False)
    assert left // 4200 < kept.len(partition="p") - 60 < left // 4000 + 32


EVENTS: dict[str, Callable[[Client, qmodal.Queue], object]] = {
    "nothing": lambda client, kept: None,
    "taken": lambda client, kept: kept.get_many(10),
    "cleared": lambda client, kept: kept.clear(),
    "taken and filled": lambda client, kept: (kept.get_many(10), kept.put_many([7, 8])),
    "expired and forgotten": lambda client, kept: (
        kept.clear(),
        client.run(ask_one(b"HDEL", client.keys.object(kept.object_id), b"p:")),
    ),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("again", ["script", "operation"])
def test_an_item_whose_reply_was_lost_counts_once_whatever_became_of_it_meanwhile(
    client: Client, kept: qmodal.Queue, event: str, again: str
) -> None:
    known = client.queues.lately[kept.object_id, None, 86_400]
    writer = known.take()
    for _ in range(3):  # the first write of a writer, and further ones
        kept.clear()
        kept.put(-1)
        signed = known.sign(b"m\x01")
        assert client.blocking.at_once(writer.packed(signed), 1) == [b"OK"]
        EVENTS[event](client, kept)
        before = list(kept.iterate())
        if again == "script":
            assert client.blocking.at_once(writer.packed(signed), 1) == [b"OK"]
        else:
            put = PutItems("", [signed], 86_400_000)
            assert client.run(client.queues.put(kept.object_id, put, writer))
            assert client.queues.writers.take() is writer
            writer.number -= 1
        assert list(kept.iterate()) == before
        assert before.count(1) == (event == "nothing")
        known.give(writer)
        assert known.take() is writer


def test_what_was_refused_for_want_of_room_is_put_once_there_is_room(
    client: Client, kept: qmodal.Queue
) -> None:
    kept.put_many([0] * 4999)
    known = client.queues.lately[kept.object_id, None, 86_400]
    signed = known.sign(b"m\x01")
    for writer in (known.take(), known.take()):
        for _ in range(2):
            assert client.blocking.at_once(writer.packed(signed), 1) == [b"FULL"]
            assert kept.len() == 5000
            assert (
                client.run(ask_one(b"EXISTS", client.keys.wrote(kept.object_id, writer.name))) == 0
            )
    kept.get_many(10)
    for _ in range(2):
        assert client.blocking.at_once(writer.packed(signed), 1) == [b"OK"]
    kept.get()
    kept.put_many([0] * 10)
    # There is no room now, and what was put is there.
    assert client.blocking.at_once(writer.packed(signed), 1) == [b"OK"]
    assert kept.get_many(6000).count(1) == 1


def test_each_put_sets_the_lifetime_of_its_partition(client: Client, kept: qmodal.Queue) -> None:
    items = client.keys.items(kept.object_id, "")
    kept.put(0, partition_ttl=100)

    def left() -> int:
        milliseconds: int = client.run(ask_one(b"PTTL", items))
        return round(milliseconds / 100_000) * 100  # in seconds

    acts: list[tuple[Act, int]] = [
        (lambda: kept.put(1), 86_400),
        (lambda: kept.put(2, partition_ttl=100), 100),
        (lambda: kept.put(3), 86_400),
        (lambda: kept.put_many([4], partition_ttl=1000), 1000),
        (lambda: (kept.get_many(100), kept.put(5, partition_ttl=100)), 100),
    ]
    for act, seconds in acts:
        act()
        assert left() == seconds
    wrote = client.run(ask_one(b"KEYS", f"{client.keys.prefix}:*:wrote:*"))
    assert all(0 < client.run(ask_one(b"PTTL", key)) <= 1_200_000 for key in wrote)


@pytest.mark.parametrize("value", ["different", "equal"])
def test_an_iteration_goes_on_behind_what_it_read_whatever_became_of_that(
    client: Client, kept: qmodal.Queue, value: str
) -> None:
    numbers = iter(range(1000))
    monday = 0 if value == "equal" else 1
    items = client.keys.items(kept.object_id, "")

    def put(count: int, *, many: bool = False) -> list[int]:
        values = [next(numbers) * monday for _ in range(count)]
        if many:
            kept.put_many(values)
        else:
            for each in values:
                kept.put(each)
        return values

    kept.clear()
    acts: list[Callable[[], list[int]]] = [
        lambda: put(3),
        lambda: (kept.get(), put(2))[1],  # what was read is there, further in front
        lambda: (kept.get_many(100), put(2, many=True))[1],
        lambda: (kept.clear(), put(3))[1],
        lambda: (client.run(ask_one(b"DEL", items)), put(2))[1],  # its time was over
        lambda: put(5, many=True),
    ]
    expected, found = acts[0](), []
    waiting_acts = iter(acts[1:])
    for item in kept.iterate(item_poll_timeout=0.5):
        found.append(item)
        if len(found) == len(expected) and (act := next(waiting_acts, None)):
            expected += act()
    assert found == expected


def test_an_iteration_sees_what_few_steps_have_put(kept: qmodal.Queue) -> None:
    found = []
    for item in kept.iterate(item_poll_timeout=0.2):
        found.append(item)
        if item < 5:
            assert kept.get() == item
            kept.put(item + 1)
    assert found == list(range(6))


def test_a_known_partition_may_be_forgotten_or_cleared_meanwhile(
    client: Client, kept: qmodal.Queue
) -> None:
    record = client.keys.object(kept.object_id)
    meanwhile: list[Act] = [kept.get, kept.clear]
    meanwhile.append(lambda: client.run(ask_one(b"HDEL", record, b"p:")))
    for number, act in enumerate(meanwhile):
        act()
        kept.clear()
        kept.put(number)
        assert list(kept.iterate()) == [number]
        assert client.run(ask_one(b"PTTL", client.keys.items(kept.object_id, ""))) > 0


def test_a_queue_that_is_deleted_takes_nothing_and_leaves_nothing(
    client: Client, kept: qmodal.Queue
) -> None:
    qmodal.Queue.objects.delete("kept")
    acts: list[Act] = [lambda: kept.put(1), kept.get, lambda: kept.get(block=False)]
    for act in acts:
        with pytest.raises(NotFoundError):
            act()
    record = client.keys.object(kept.object_id)
    items = client.keys.items(kept.object_id, "")
    assert client.run(ask_one(b"EXISTS", record, items)) == 0


def test_a_put_and_a_get_survive_that_the_connection_is_lost(
    client: Client, kept: qmodal.Queue
) -> None:
    for n in range(1, 4):
        client.run(ask_one(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"no"))
        kept.put(n)
        client.run(ask_one(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"no"))
        assert kept.get() == n - 1
    assert kept.get_many(5) == [3]


def test_an_item_that_is_sent_again_as_its_reply_was_lost_is_there_once(
    client: Client, kept: qmodal.Queue
) -> None:
    known = client.queues.lately[kept.object_id, None, 86_400]
    signed = known.sign(b"m\x01")
    writer = known.take()
    for _ in range(2):
        assert client.blocking.at_once(writer.packed(signed), 1) == [b"OK"]
    assert client.run(client.queues.put(kept.object_id, PutItems("", [signed], 1000), writer))
    assert list(kept.iterate()) == [0, 1]
    kept.put(2)
    assert kept.get_many(5) == [0, 1, 2]


def test_a_put_waits_for_room(q: qmodal.Queue) -> None:
    q.put_many(list(range(5000)))
    thread = threading.Thread(target=lambda: q.put("late"))
    thread.start()
    assert q.get() == 0
    thread.join(30)
    assert q.get_many(5000)[-1] == "late"


def test_a_partition_holds_64_mib(q: qmodal.Queue) -> None:
    item = bytes(1_000_000)
    for _ in range(2):
        q.put_many([item] * 32)
    q.put_many([1, 2, 3])
    with pytest.raises(queue.Full):
        q.put_many([item] * 5, block=False)
    q.put(4, block=False)


def test_what_is_too_large_is_refused(q: qmodal.Queue) -> None:
    with pytest.raises(RequestSizeError, match=r"Queue\.put request is too large"):
        q.put(bytes(1024 * 1024 + 1))
    with pytest.raises(RequestSizeError, match=r"Queue\.put_many request is too large"):
        q.put_many([1, bytes(1024 * 1024 + 1)])
    with pytest.raises(RequestSizeError, match=r"Queue\.put_many request is too large"):
        q.put_many([bytes(1024 * 1000)] * 66)
    assert q.len() == 0


def test_there_are_so_many_partitions(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_LIMITS", (5000, 1 << 26, 4))
    q = qmodal.Queue.from_name("wide", create_if_missing=True)
    for n in range(4):
        q.put(n, partition=str(n))
    with pytest.raises(ResourceExhaustedError, match="partitions"):
        q.put(4, partition="4")
    assert q.get(partition="2") == 2
    q.put(4, partition="4")
    assert q.len(total=True) == 4
    qmodal.Queue.objects.delete("wide")


def test_partitions_that_are_empty_are_forgotten_as_new_ones_come(
    client: Client, q: qmodal.Queue
) -> None:
    for n in range(200):
        q.put(n, partition=f"p{n}")
        assert q.get(partition=f"p{n}") == n
    assert client.run(ask_one(b"HLEN", client.keys.object(q.object_id))) < 150


def test_a_partition_goes_some_time_after_the_last_put(client: Client) -> None:
    q = qmodal.Queue.from_name("brief", create_if_missing=True)
    q.put(1, partition="p", partition_ttl=1000)
    q.put(1)
    keys = client.keys
    lives = [client.run(ask_one(b"PTTL", keys.items(q.object_id, name))) for name in ("p", "")]
    assert 990_000 < lives[0] <= 1_000_000
    assert 86_000_000 < lives[1] <= 86_400_000
    client.run(ask_one(b"PEXPIRE", keys.items(q.object_id, "p"), 1))
    wait_until(lambda: q.len(partition="p") == 0, what="the partition goes")
    assert q.len(total=True) == 1
    qmodal.Queue.objects.delete("brief")


def test_iterating_reads_without_removing(q: qmodal.Queue) -> None:
    q.put_many(list(range(250)))
    assert list(q.iterate()) == list(range(250))
    assert q.len() == 250
    assert list(q.iterate(partition="p")) == []


def test_iterating_waits_for_each_further_item_and_misses_none(q: qmodal.Queue) -> None:
    q.put_many([0, 1, 2])
    found = []
    for item in q.iterate(item_poll_timeout=1):
        found.append(item)
        if item == 1:
            assert q.get_many(2) == [0, 1]  # what was read already may go meanwhile
        if item < 5:
            q.put(item + 3)
    assert found == list(range(8))


def test_an_iteration_that_nobody_reads_is_mentioned(
    q: qmodal.Queue, caplog: pytest.LogCaptureFixture
) -> None:
    q.iterate()
    gc.collect()
    assert "Queue.iterate was not consumed" in caplog.text


def test_each_method_has_an_async_form(q: qmodal.Queue) -> None:
    async def use() -> None:
        await q.put.aio(1)
        await q.put_many.aio([2, 3], partition="p")
        assert [item async for item in q.iterate.aio()] == [1]
        assert await q.len.aio(total=True) == 3
        assert await q.get.aio() == 1
        assert await q.get_many.aio(5, partition="p") == [2, 3]
        with pytest.raises(queue.Empty):
            await q.get.aio(timeout=0.05)
        await q.clear.aio(all=True)
        assert (await q.info.aio()).name is None

    asyncio.run(use())

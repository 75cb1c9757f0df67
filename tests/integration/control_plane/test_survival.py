"""Long-lived loops go on whatever one item leads to, and say what it was, with its traceback."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import InternalFailure
from qmodal.store.apps import AppRecord
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.store.watch.sweeper import Sweeper
from qmodal.transport import defects
from qmodal.transport.operation import Op, ask_each, ask_one
from qmodal.transport.pubsub import _pass_on
from qmodal.transport.sharing.gather import gather
from qmodal.wire.ids import new_worker_id
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.catalog import Catalog, PoolTerms
from qmodal_autoscaler.cluster.observer import DuePools
from qmodal_autoscaler.control import leader_loop as loops
from qmodal_autoscaler.control.assigner import LeadershipLostError
from qmodal_autoscaler.control.leader_loop import LeaderTerm
from qmodal_autoscaler.policy import decide as policy
from qmodal_autoscaler.policy.state import Decision
from qmodal_workers.agent.supervision import supervised
from qmodal_workers.output.pipes import Pipes
from tests.support.stage import Stage, options
from tests.support.store.bench import Bench
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def counted_anew() -> None:
    defects._counts.clear()
    defects._new.clear()


def test_a_flood_of_foreign_text_makes_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5000):
        defects.skip("one key", f"field {number}")
        defects.skip(f"key {number}", "odd")
    assert len(caplog.records) < 2 * defects.MOST_KINDS + defects.MOST_NEW + 20
    defects._new.clear()


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    made = Pipes(lambda: None)
    yield made
    made.close()


@pytest.fixture
def plain(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.redis_url or "") as made:
        yield made


def printed(pipes: Pipes, container: str) -> bytes:
    """What the container has printed since it was asked last."""
    return b"".join(chunk.text for _, chunk in pipes.take() if chunk.container == container)


def opened(pipes: Pipes, container: str) -> int:
    """The end that the container writes to."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    nothing, _ = os.pipe()
    pipes.open(container, "ap", stdout=ours, stderr=nothing)
    return theirs


def boom(*_: Any, **__: Any) -> Any:
    raise RuntimeError("nobody thought of this")


def test_output_is_read_on_when_a_wish_of_one_container_fails(
    pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread ended, and no output of any container was read again."""
    first = opened(pipes, "ta-1")
    pipes._ask(boom)
    pipes.open("ta-odd", "ap", stdout=-1, stderr=-1)  # cannot be registered
    done: list[bool] = []
    pipes.finish("ta-odd", lambda: done.append(True))
    second = opened(pipes, "ta-2")
    for end, text in ((first, b"one\n"), (second, b"two\n")):
        os.write(end, text)
    seen: set[bytes] = set()

    def is_read() -> bool:
        seen.update(chunk.text for _, chunk in pipes.take())
        return seen == {b"one\n", b"two\n"}

    wait_until(is_read, what="both have been read")
    assert done == [True]
    assert "nobody thought of this" in caplog.text
    for end in (first, second):
        os.close(end)


def test_a_pipe_that_cannot_be_read_ends_by_itself(
    pipes: Pipes, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = opened(pipes, "ta-bad"), opened(pipes, "ta-good")
    wait_until(lambda: "ta-good" in pipes._pipes, what="both are read")
    pipes._outputs["ta-bad"]._lines = None  # type: ignore[assignment]  # a mistake of ours
    os.write(bad, b"x\n")
    wait_until(lambda: "stdout of ta-bad" in caplog.text, what="it is said")
    os.write(good, b"y\n")
    wait_until(lambda: printed(pipes, "ta-good"), what="the other one is read")
    os.close(bad)
    os.close(good)


def full_rounds(settings: Settings, rounds: int = 1) -> None:
    """Full rounds of one leadership."""

    async def lead() -> None:
        client = Client(settings)
        epoch = await client.aio(client.fleet.lead("as-test"))
        term = LeaderTerm(client, epoch)
        for _ in range(rounds):
            await term._round(DuePools(frozenset(), everything=True))
        await client.aclose()

    asyncio.run(lead())


def failing_for(inflight: int) -> Callable[..., Decision]:
    """The policy, with a mistake that only a pool with so many inputs meets."""

    def decide(memory: Any, snapshot: Any, *rest: Any) -> Decision:
        if snapshot.inflight == inflight:
            raise TypeError("a mistake in the policy")
        return policy.decide(memory, snapshot, *rest)

    return decide


@pytest.mark.leaves_keys
def test_a_mistake_in_the_policy_is_seen_and_costs_no_other_pool(
    client: Client,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(client)
    stage.worker()
    stage.publish(f=options(), g=options())
    stage.submit("f", 3)
    stage.submit("g", 1)
    monkeypatch.setattr(loops, "decide", failing_for(3))
    full_rounds(settings, rounds=5)
    assert stage.assigned("g")
    assert not stage.assigned("f")
    said = [record for record in caplog.records if "a mistake in the policy" in record.getMessage()]
    assert [record.exc_info is not None for record in said] == [True] * 3, "1, 2 and 4 times"
    assert "(4 times so far)" in said[-1].getMessage()
    monkeypatch.undo()
    full_rounds(settings)
    assert stage.assigned("f"), "nothing of it is remembered"
    stage.workers[0].line.close()


@pytest.mark.leaves_keys
def test_a_mistake_about_what_a_pool_is_entitled_to_costs_no_other_pool(
    client: Client,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(client)
    stage.worker()
    stage.publish(f=options(), g=options())
    stage.submit("f")
    stage.submit("g")
    terms = Catalog.terms

    def failing(self: Catalog, pool: str) -> PoolTerms:
        return boom() if pool == stage.pools["f"] else terms(self, pool)

    monkeypatch.setattr(Catalog, "terms", failing)
    full_rounds(settings, rounds=2)
    assert stage.assigned("g")
    assert not stage.assigned("f")
    (first, second) = [
        record for record in caplog.records if "nobody thought of this" in record.getMessage()
    ]
    assert first.exc_info is not None
    assert "(2 times so far)" in second.getMessage()
    stage.workers[0].line.close()


@pytest.mark.leaves_keys
def test_a_box_that_cannot_be_assigned_anything_is_passed_over(
    client: Client, settings: Settings, plain: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(client)
    larger, smaller = stage.worker(max_containers=9), stage.worker(max_containers=2)
    stage.publish(f=options())
    plain.set(client.keys.assigned(larger.name), "no hash")
    stage.submit("f")
    full_rounds(settings, rounds=2)
    assert smaller.assigned()
    assert f"{larger.name}: it cannot be told what to run" in caplog.text
    for each in stage.workers:
        each.line.close()


def test_troubles_of_loops_are_said_once_and_again_after_they_were_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They were forgotten with each look at the pools, and said every second."""
    change_log = ChangeLog()

    def fail(*, is_over: bool = False) -> None:
        with change_log.surviving("the sweep", "it was not made", settles=True):
            if not is_over:
                raise InternalFailure("no")

    for _ in range(3):
        fail()
        change_log.keep(())
    assert len(caplog.records) == 1
    fail(is_over=True)
    fail()
    assert len(caplog.records) == 2
    change_log.trouble("0" * 32, "a pool")
    change_log.keep(())
    assert set(change_log._troubles) == {"the sweep"}


def test_what_a_loop_must_not_survive_goes_through_the_change_log() -> None:
    with (
        pytest.raises(LeadershipLostError),
        ChangeLog().surviving("x", "y", but=(LeadershipLostError,)),
    ):
        raise LeadershipLostError


def test_operations_side_by_side_fail_each_for_itself(client: Client, bench: Bench) -> None:
    def odd() -> Op[None]:
        yield from ask_one(b"PING")
        raise KeyError("a mistake")

    key = client.keys.pool(bench.pool)
    op = gather([ask_one(b"GET", key), ask_one(b"HGET", key, b"app"), odd(), ask_one(b"PING")])
    wrong, app, mistake, pong = client.run(op)
    assert isinstance(wrong, InternalFailure)
    assert app == b"ap-bench"
    assert isinstance(mistake, KeyError)
    assert pong == b"PONG"


def test_errors_of_single_commands_are_replies_if_asked_for(client: Client, bench: Bench) -> None:
    key = client.keys.pool(bench.pool)
    first, second = client.run(ask_each([(b"GET", key), (b"PING",)]))
    assert "WRONGTYPE" in str(first)
    assert second == b"PONG"
    assert client.run(ask_each([])) == []


def test_a_message_that_leads_to_a_mistake_ends_no_subscription(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _pass_on([b"message", b"channel", b"x"], boom)
    assert "nobody thought of this" in caplog.text


def test_a_loop_of_a_worker_begins_anew_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Its end was the end of the worker and of all its containers."""
    began: list[int] = []
    again = asyncio.Event()

    async def loop() -> None:
        began.append(1)
        if len(began) == 1:
            boom()
        again.set()
        await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(supervised("odd", loop))
        await again.wait()
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 5))
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None


def lost_worker(client: Client, plain: redis.Redis) -> str:
    """A box whose lease has ended."""
    name = new_worker_id()
    client.run(
        client.fleet.enroll(
            WorkerReport(
                worker=name,
                host="h",
                pid=1,
                cpus=1.0,
                memory=1,
                max_containers=1,
                python="3",
                version="1",
            )
        )
    )
    plain.zadd(client.keys.workers, {name: 1})
    return name


def test_a_lost_box_whose_record_is_odd_is_cleared_like_the_others(
    client: Client, plain: redis.Redis
) -> None:
    odd, other = lost_worker(client, plain), lost_worker(client, plain)
    plain.zadd(client.keys.workers, {b"\xff": 1})
    plain.set(client.keys.assigned(odd), "no hash")
    plain.set(client.keys.containers(odd), "no hash")
    sweeper = Sweeper(client.keys)
    for worker in (odd, other):
        client.run(sweeper.clear(worker))
    assert client.run(client.fleet.workers()) == {}
    assert plain.zrange(client.keys.workers, 0, -1) == [b"\xff"]


def test_a_lost_box_gives_back_nothing_that_it_did_not_hold(
    client: Client, bench: Bench, plain: redis.Redis
) -> None:
    """Anybody may have written there that it runs a container of a living one."""
    bench.submit()
    bench.claim("ta-living-1")
    lost = lost_worker(client, plain)
    plain.hset(client.keys.assigned(lost), "ta-living-1", bench.pool)
    client.run(Sweeper(client.keys).clear(lost))
    assert bench.consumers() == {"ta-living-1"}


def test_what_a_reader_of_any_name_holds_is_given_back_by_the_audit(
    client: Client, bench: Bench
) -> None:
    call = bench.submit()
    bench.ask(
        *(b"XREADGROUP", b"GROUP", b"containers", b"\xff odd"),
        *(b"STREAMS", client.keys.inputs(bench.pool), b">"),
    )
    client.run(Sweeper(client.keys).audit())
    assert bench.consumers() == set()
    assert [one.call for one in bench.claim()] == [call]


def test_an_app_whose_record_is_odd_has_not_ended(client: Client, plain: redis.Redis) -> None:
    record = AppRecord(app_id="ap-odd", name="n", environment="main", state="ephemeral", version=1)
    client.run(client.apps.publish(record, document=b"d", now=1))
    for field, value in (("version", "x"), ("state", "odd"), ("name", b"\xff")):
        before = plain.hget(client.keys.app("ap-odd"), field)
        plain.hset(client.keys.app("ap-odd"), field, value)
        with pytest.raises(InternalFailure, match="delete that key"):
            client.run(client.apps.record("ap-odd"))
        plain.hset(client.keys.app("ap-odd"), field, before or "")
    assert client.run(client.apps.record("ap-odd")) == record


def test_a_report_with_a_text_that_is_no_utf8_is_sent_all_the_same(client: Client) -> None:
    """It could not be packed, which ended the loop that renews the lease, and with it the worker."""
    report = ContainerReport(
        container="ta-x-1",
        pool="0" * 32,
        app="ap",
        function="f",
        label="f",
        number=1,
        state="failed",
        since=1,
        detail="no file 'a\udcff'",
    )
    plain_box = "wk-x"
    with redis.Redis.from_url(client.settings.redis_url or "") as plain:
        plain.zadd(client.keys.workers, {plain_box: 9e15})
    assert client.run(client.fleet.renew(plain_box, {"ta-x-1": report}))
    (found,) = client.run(client.fleet.containers([plain_box]))[plain_box]
    assert found.detail == "no file 'a\\udcff'"
    client.run(client.fleet.retire(plain_box))


@pytest.mark.parametrize("epoch", [b"x", b"-5", b"", b"9223372036854775807", b"1.5"])
def test_an_epoch_that_is_no_count_begins_beyond_any_there_was(
    client: Client, plain: redis.Redis, epoch: bytes
) -> None:
    first = client.run(client.fleet.lead("as-1"))
    plain.set(client.keys.epoch, epoch)
    second = client.run(client.fleet.lead("as-1"))
    assert second > first + 1_000_000
    assert client.run(client.fleet.lead("as-1")) == second
    plain.delete(client.keys.leader)
    assert client.run(client.fleet.lead("as-2")) == second + 1


def test_a_leader_without_a_lifetime_leads_no_longer_than_any_other(
    client: Client, plain: redis.Redis
) -> None:
    """Nobody led ever again."""
    for lifetime in (None, 86_400):
        plain.set(client.keys.leader, "somebody", ex=lifetime)
        assert client.run(client.fleet.lead("as-1")) == 0
        assert 0 < plain.pttl(client.keys.leader) <= 5_000
    plain.delete(client.keys.leader)
    plain.lpush(client.keys.leader, "no string")
    assert client.run(client.fleet.lead("as-1"))

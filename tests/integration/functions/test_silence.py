"""A call that nobody works on: whoever waits for it is told why, once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.client.verb import StreamVerb
from qmodal.functions import remote as invocation
from qmodal.functions.call import FunctionCall
from qmodal.functions.generator import ItemStream
from qmodal.functions.map.inputs import InputReader
from qmodal.functions.map.map_call import MapOptions
from qmodal.functions.map.map_results import Results
from qmodal.functions.submission import open_pool
from qmodal.functions.target import Target
from qmodal.spec.documents import PoolSpec
from qmodal.store.fleet import WorkerReport
from qmodal.store.watch.reasons import Reason, Reasons
from qmodal.transport.operation import Op
from qmodal.wire.ids import new_app_id
from tests.support.store.bench import target_of
from tests.support.waiting import wait_until

BOX = WorkerReport(
    worker="wk-silent",
    host="box-1",
    pid=1,
    cpus=2,
    memory=1,
    max_containers=2,
    python="3.11",
    version="0",
)
VERBS = ("remote", "spawn", "map", "remote_gen", "gather", "iter")


@pytest.fixture
def targets(client: Client) -> Iterator[dict[str, Target]]:
    """Functions that nobody serves, one for each verb, and one that is called after them."""
    app = new_app_id()
    before = clients.use(client)
    made = {
        name: target_of(PoolSpec(app_id=app, function=name, label=name))
        for name in (*VERBS, "first", "second")
    }
    yield made
    clients.use(before)
    for target in made.values():
        client.run(client.pools.leave(target.pool))


async def _spawned(client: Client, target: Target) -> FunctionCall[Any]:
    return FunctionCall(await client.aio(invocation.spawn(target, ((1,), {}))), 1)


async def _call(client: Client, verb: str, target: Target) -> None:
    def found() -> Op[Target]:
        yield from ()
        return target

    match verb:
        case "spawn":
            await (await _spawned(client, target)).get.aio()
        case "gather":
            await FunctionCall.gather.aio(await _spawned(client, target))
        case "iter":
            call = await _spawned(client, target)
            await anext(aiter(call.iter.aio()))
        case "map":
            inputs = InputReader(([1],))
            results: AsyncIterator[Any] = aiter(Results[Any](found, "map", inputs, MapOptions()))
            await anext(results)
        case "remote_gen":
            await anext(StreamVerb(lambda: ItemStream(found, ((1,), {}))).aio())
        case _:
            await client.aio(invocation.remote(target, ((1,), {})))


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "qmodal.calls"]


async def _stopped(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.leaves_keys  # a spawned call goes on without whoever waited for it
def test_every_verb_says_after_three_seconds_why_it_waits(
    client: Client, targets: dict[str, Target], caplog: pytest.LogCaptureFixture
) -> None:
    async def program() -> None:
        for verb in VERBS:
            await client.aio(open_pool(client, targets[verb].spec))
            await client.aio(client.observing.pause(targets[verb].pool, since=1))
        tasks = [asyncio.create_task(_call(client, verb, targets[verb])) for verb in VERBS]
        await asyncio.to_thread(
            wait_until, lambda: len(_said(caplog)) == len(VERBS), what="all of them say why"
        )
        await _stopped(tasks)
        await client.aclose()

    with caplog.at_level(logging.WARNING, "qmodal.calls"):
        began = time.monotonic()
        asyncio.run(program())
        assert time.monotonic() - began >= 3.0
    assert {each.split()[1] for each in _said(caplog)} == {*VERBS}
    for said in _said(caplog):
        assert "its pool is paused. `qmodal pool resume " in said


def test_a_missing_worker_is_said_once_however_many_calls_wait(
    client: Client, targets: dict[str, Target], caplog: pytest.LogCaptureFixture
) -> None:
    async def program() -> None:
        calls = [("remote", targets[name]) for name in ("first", "second", "first")]
        tasks = [asyncio.create_task(_call(client, verb, target)) for verb, target in calls]
        looked = client.waits.looked
        await asyncio.to_thread(
            wait_until, lambda: len(looked) == 2 and _said(caplog), what="both have looked"
        )
        await _stopped(tasks)
        await client.aclose()

    with caplog.at_level(logging.WARNING, "qmodal.calls"):
        asyncio.run(program())
    (said,) = _said(caplog)
    assert "no worker and no autoscaler use " in said
    assert "Start `qmodal up`" in said


@pytest.mark.leaves_keys  # a spawned call goes on without whoever waited for it
def test_what_the_leader_says_is_said_for_gpus_and_not_for_a_limit_of_its_own(
    client: Client, targets: dict[str, Target], caplog: pytest.LogCaptureFixture
) -> None:
    lacks, limited = targets["first"].pool, targets["second"].pool
    told = Reasons(
        {
            lacks: Reason.of("gpu", gpus="A100", boxes="box-1")._replace(ahead=2),
            limited: Reason.of("maximum", most=4),
        }
    )

    async def program() -> None:
        tasks = [
            asyncio.create_task(_call(client, "remote", targets[name]))
            for name in ("first", "second")
        ]
        looked = client.waits.looked

        def is_told() -> bool:
            client.run(client.fleet.lead("as-test"))
            client.run(client.fleet.renew(BOX.worker, {}))
            client.run(client.fleet.say_reasons(told))
            return {lacks, limited} <= looked.keys() and bool(_said(caplog))

        await asyncio.to_thread(wait_until, is_told, what="both have looked")
        await _stopped(tasks)
        await client.aclose()

    client.run(client.fleet.enroll(BOX))
    with caplog.at_level(logging.WARNING, "qmodal.calls"):
        asyncio.run(program())
    client.run(client.fleet.retire(BOX.worker))
    (said,) = _said(caplog)
    assert said.startswith("qmodal: first waits: no GPU A100 is free on box-1, and 2 pools are")

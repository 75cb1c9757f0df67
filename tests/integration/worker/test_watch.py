"""What a worker does when records and hints reach it in an unlucky order, forced step by step."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from qmodal.client.client import Client
from qmodal.store.entries import Claimed
from qmodal.store.fleet import ContainerReport
from qmodal_workers.agent import watchdog
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.agent.watchdog import Watchdog
from qmodal_workers.ipc.endpoints import Endpoints
from qmodal_workers.ipc.shared_record import CANCELLED, ContainerStatus
from tests.support.store.bench import Bench

NAME = "ta-a-1"


@pytest.fixture
def container(bench: Bench) -> Iterator[Container]:
    """One whose process bears every interrupt, and whose record the test writes."""
    ignoring = ["sh", "-c", 'trap "" USR2; exec sleep 600']
    with subprocess.Popen(ignoring) as process:
        report = ContainerReport(
            container=NAME,
            pool=bench.pool,
            app="ap",
            function="f",
            label="f",
            number=1,
            state="ready",
            since=0,
            pid=process.pid,
        )
        ends = Endpoints.create()
        yield Container(report=report, endpoints=ends)
        process.kill()
        ends.hand_over()
        ends.close()


def writes(container: Container, *held: Claimed, serial: int = 1) -> None:
    """It runs the first of these, since long ago; or it is idle."""
    assert container.endpoints is not None
    container.endpoints.record.write(
        ContainerStatus(
            state="busy" if held else "idle",
            serial=serial if held else 0,
            started=time.monotonic_ns() - 10**9,
            running=int(bool(held)),
            held=tuple((one.lane, one.entry) for one in held),
        )
    )


@contextmanager
def watching(client: Client, container: Container) -> Iterator[tuple[asyncio.Runner, Watchdog]]:
    """Its worker's watch, which looks when it is told to; nothing audits."""
    containers = ContainerTable()
    containers.add(container)
    with asyncio.Runner() as loop:
        yield loop, Watchdog(client, containers)
        loop.run(client.aclose())


def chased(container: Container) -> list[tuple[int, int]]:
    """Which input was told to stop, and why."""
    return (
        []
        if container.pending_interrupt is None
        else [(container.pending_interrupt.serial, container.pending_interrupt.why)]
    )


def killed_because(container: Container) -> str:
    return "" if container.termination is None else container.termination.reason


async def look_until(watch: Watchdog, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            watch.check()
            await asyncio.sleep(0.005)


async def idle(watch: Watchdog) -> None:
    """Look, and let what came of it end."""
    watch.check()
    await asyncio.gather(*watch._acting.values())


def test_a_cancel_that_is_heard_before_its_input_starts_is_not_forgotten(
    bench: Bench, client: Client, container: Container
) -> None:
    call = bench.submit()
    (claimed,) = bench.claim(NAME)
    assert client.run(client.calls.cancel(call)) == [(NAME, claimed.entry)]
    writes(container)
    with watching(client, container) as (loop, watch):
        loop.run(_hear(watch, claimed))
        assert chased(container) == []
        writes(container, claimed)
        loop.run(look_until(watch, lambda: chased(container) != []))
    assert chased(container) == [(1, CANCELLED)]


def test_a_cancel_that_takes_the_container_along_kills_it_if_its_input_starts_late(
    bench: Bench, client: Client, container: Container
) -> None:
    call = bench.submit()
    (claimed,) = bench.claim(NAME)
    client.run(client.calls.cancel(call))
    writes(container)
    with watching(client, container) as (loop, watch):
        loop.run(_hear(watch, claimed, takes_container=True))
        assert killed_because(container) == ""
        writes(container, claimed)
        loop.run(look_until(watch, lambda: killed_because(container) != ""))
    assert "its container with it" in killed_because(container)


def test_a_look_that_comes_between_a_cancel_and_its_message_does_not_spare_the_container(
    bench: Bench, client: Client, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The look saw an input that was held no more, and interrupted it; it had ended when the message came.
    call = bench.submit()
    (claimed,) = bench.claim(NAME)
    writes(container, claimed)
    client.run(client.calls.cancel(call))

    async def audit_then_hear(watch: Watchdog) -> None:
        audit = asyncio.create_task(watch._audit(container))
        await asyncio.wait({audit}, timeout=0.2)
        watch.killed(NAME, claimed.entry)
        await audit

    monkeypatch.setattr(watchdog, "HEAR_OUT_SECONDS", 10.0, raising=False)
    with watching(client, container) as (loop, watch):
        loop.run(audit_then_hear(watch))
    assert chased(container) == []
    assert "cancelled" in killed_because(container)


def test_a_cancel_of_an_entry_of_the_same_id_interrupts_nothing(
    bench: Bench, client: Client, container: Container
) -> None:
    """The two streams of a pool count alike; what is still held was not cancelled."""
    bench.submit()
    (claimed,) = bench.claim(NAME)
    writes(container)
    with watching(client, container) as (loop, watch):
        loop.run(_hear(watch, claimed))
        writes(container, claimed)
        loop.run(idle(watch))
        assert chased(container) == []
    bench.settle(claimed)


async def _hear(watch: Watchdog, claimed: Claimed, takes_container: bool = False) -> None:
    (watch.killed if takes_container else watch.cancelled)(NAME, claimed.entry)

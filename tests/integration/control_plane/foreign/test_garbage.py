"""Rubbish in any key costs what that key is about, and nothing else: nobody ends, nobody stands still."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from qmodal.cli.commands import app as app_commands, fleet as fleet_commands
from qmodal.cli.commands.doctor_checks import ON_SERVER
from qmodal.cli.commands.finding import pool as pool_commands
from qmodal.cli.commands.finding.why.command import why
from qmodal.cli.commands.services import boxes as boxes_commands
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import Error
from qmodal.functions.graph import graph_of
from qmodal.functions.results import OutputReader
from qmodal.store.fleet import LEADER_MS
from qmodal.store.history.logs import LogChunk
from qmodal.store.watch.sweeper import Sweeper
from qmodal.transport import defects
from qmodal.transport.operation import Op
from qmodal.wire.ids import shard_of
from qmodal_autoscaler.cluster.observer import DuePools
from qmodal_autoscaler.control.assigner import LeadershipLostError
from qmodal_autoscaler.control.leader_loop import LeaderTerm
from tests.support.stage import PaintedWorker, Stage, options
from tests.support.store.garbage import NAMES, WRITES, About, spoiled

# With one of these of another type there is nothing that could be led.
WHOLE = {"workers"}


@dataclass
class Scene:
    """An app whose pool `f` is tormented, another one with `g` on another shard, and two boxes."""

    stage: Stage
    other: Stage
    plain: redis.Redis
    settings: Settings
    call: str
    tormented: PaintedWorker
    healthy: PaintedWorker

    @property
    def client(self) -> Client:
        return self.stage.client

    def key(self, name: str) -> str:
        return NAMES[name](
            self.client.keys,
            About(self.stage.pools["f"], self.call, self.stage.app_id, self.tormented.name),
        )


def elsewhere(client: Client, stage: Stage) -> Stage:
    """An app whose pool has another shard."""
    while True:
        other = Stage(client)
        other.publish(g=options())
        if shard_of(stage.pools["f"]) != shard_of(other.pools["g"]):
            return other


@pytest.fixture
def scene(client: Client, settings: Settings) -> Iterator[Scene]:
    stage = Stage(client)
    stage.publish(f=options())
    other = elsewhere(client, stage)
    tormented, healthy = stage.worker(), stage.worker()
    other.workers = stage.workers
    with redis.Redis.from_url(settings.redis_url or "") as plain:
        call = stage.submit("f", 3)
        client.run(client.fleet.lead("as-test"))
        made = Scene(stage, other, plain, settings, call, tormented, healthy)
        _furnish(made)
        yield made
        for key in plain.scan_iter(f"{settings.prefix}:*"):
            plain.unlink(key)
    for worker in (tormented, healthy):
        worker.line.close()


def _furnish(scene: Scene) -> None:
    """Something in every key."""
    client, stage, plain = scene.client, scene.stage, scene.plain
    rule(scene)
    stage.until(lambda: len(stage.assigned("f")) == 3, "containers")
    container = min(scene.tormented.roster or scene.healthy.roster)
    owner = scene.tormented if container in scene.tormented.roster else scene.healthy
    claimed = owner.claim(container, 2)
    pools = client.pools
    client.run(pools.retry(stage.pools["f"], claimed[0], delay=3600))
    client.run(pools.release(stage.pools["f"], [(1, claimed[1].entry, scene.call)]))
    client.run(client.apps.override(stage.app_id, stage.pools["f"], {"max_containers": 9}))
    client.run(client.logs.append(stage.app_id, [LogChunk("ta-1", "stdout", b"hello\n")]))
    keys = client.keys
    plain.xadd(keys.outputs(scene.call), {"i": "0", "x": "lost"})
    plain.execute_command("XADD", keys.children(scene.call), "*", "0", "fc-00" + "a" * 22)
    plain.xadd(keys.dead(shard_of(stage.pools["f"])), {"why": "x"})
    plain.set(keys.stopped("main", "gone"), "ap-gone")
    plain.set(keys.client(stage.app_id), "1")
    plain.lpush(keys.more(scene.call), "1")


def rule(scene: Scene) -> None:
    """One full round of a new leader; an error that can be foreseen is what its loop survives."""

    async def round_() -> None:
        client = Client(scene.settings)
        try:
            if epoch := await client.aio(client.fleet.lead("as-test")):
                await LeaderTerm(client, epoch)._round(DuePools(frozenset(), everything=True))
        except (Error, LeadershipLostError):
            pass
        finally:
            await client.aclose()

    asyncio.run(round_())


def survey(scene: Scene) -> None:
    """Everything that reads: each may say that it cannot, and no more than that."""
    client, app = scene.client, scene.stage.app_id
    reader = OutputReader(client, scene.call)
    sweeper = Sweeper(client.keys)
    ops: list[Callable[[], Op[Any]]] = [
        *(lambda check=check: check(client) for check in ON_SERVER.values()),
        sweeper.audit,
        lambda: client.pools.promote(scene.stage.pools["f"]),
        lambda: client.pools.service_time(scene.stage.pools["f"]),
        lambda: client.logs.tail(app),
        lambda: client.logs.follow(app, "0", block=1),
        lambda: reader.read(1),
        lambda: graph_of(client, scene.call),
        lambda: client.apps.overrides(app),
        lambda: client.apps.tags(app),
        lambda: client.apps.published(app, 1),
        lambda: client.fleet.renew(scene.tormented.name, {}),
        lambda: client.calls.cancel("fc-00" + "b" * 22),
    ]
    for op in ops:
        try:
            client.run(op())
        except Error:
            continue


@pytest.fixture(autouse=True)
def current_client(client: Client) -> Iterator[None]:
    """Commands use the client of their process."""
    before = clients.use(client)
    yield
    clients.use(before)


def look(scene: Scene) -> None:
    """What people look at."""
    app = scene.stage.app_id
    for command, argv in (
        (boxes_commands.listing, []),
        (fleet_commands.containers, []),
        (app_commands.listing, []),
        (app_commands.logs, [app, "--timestamps"]),
        (app_commands.history, [app]),
        (pool_commands.listing, []),
        *((why, [about]) for about in (scene.stage.pools["f"], scene.call, scene.tormented.name)),
    ):
        result = CliRunner().invoke(command, argv)
        if result.exception is not None and not isinstance(result.exception, Error | SystemExit):
            raise result.exception


def assert_serves(scene: Scene) -> None:
    """The other pool gets the container that it needs."""
    call = scene.other.submit("g")
    rule(scene)
    assert scene.other.assigned("g")
    scene.healthy.act()
    scene.tormented.act()
    assert scene.other.serve("g") == 1
    assert scene.client.run(scene.client.calls.read(call, b"0", block=0))


@pytest.mark.parametrize("name", NAMES)
def test_rubbish_in_a_key_stops_nothing_else(
    scene: Scene, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    key = scene.key(name)
    for what, write in WRITES.items():
        defects._counts.clear()
        defects._new.clear()
        with spoiled(scene.plain, key, write):
            rule(scene)
            survey(scene)
            look(scene)
            if name == "leader" and scene.plain.get(key) != b"as-test":
                # Whoever that is, it is not the leader for longer than one that renews.
                assert 0 < scene.plain.pttl(key) <= LEADER_MS
            elif name not in WHOLE or what not in ("a string", "a list"):
                assert_serves(scene)
        odd = [record for record in caplog.records if record.exc_info]
        assert not odd, f"{name}, {what}: {odd[0].getMessage()}\n{caplog.text}"
        caplog.clear()
    assert_serves(scene)

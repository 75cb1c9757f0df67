"""Commands show what anybody may have written into Redis, and no terminal obeys it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import click
import pytest
import redis
from click.testing import CliRunner

from qmodal.cli.commands import app as app_commands, doctor, fleet as fleet_commands
from qmodal.cli.commands.finding import call, dead, pool
from qmodal.cli.commands.objects import dict as dict_commands, queue as queue_commands
from qmodal.cli.commands.services import boxes, schedule, token
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.store.fleet import packed
from qmodal.store.history.logs import LogChunk
from qmodal.telemetry.printable import printable
from qmodal.wire.ids import container_id, shard_of
from tests.support.stage import Stage, options

HOSTILE = "x\x1b]52;c;eA==\x07\x9b2J\x1b[2J\r\b\u202e\u200b\x1b[31my"


@pytest.fixture
def stage(client: Client, settings: Settings) -> Iterator[Stage]:
    """An app, a box and a call; what is plain data about them is hostile."""
    made = Stage(client)
    made.publish(f=options())
    worker = made.worker()
    made.submit("f", 2)
    epoch = client.run(client.fleet.lead("as-test"))
    container = container_id(worker.name, 1)
    client.run(client.fleet.assign(worker.name, {container: made.pools["f"]}, epoch=epoch))
    worker.act()
    keys = client.keys
    before = clients.use(client)
    with redis.Redis.from_url(settings.redis_url or "") as plain:
        _spoil(made, plain, worker.name)
        yield made
        clients.use(before)
        for key in plain.scan_iter(f"{keys.prefix}:*"):
            plain.unlink(key)
    worker.line.close()


def _spoil(stage: Stage, plain: redis.Redis, worker: str) -> None:
    client = stage.client
    keys = client.keys
    (report,) = client.run(client.fleet.reports([worker]))
    spoiled = replace(report, host=HOSTILE, labels=(HOSTILE,), python=HOSTILE, version=HOSTILE)
    plain.hset(keys.worker(worker), "report", packed(spoiled))
    listed = client.run(client.fleet.containers([worker]))[worker]
    for each in listed:
        shown = replace(each, label=HOSTILE, function=HOSTILE, detail=HOSTILE)
        plain.hset(keys.containers(worker), each.container, packed(shown))
    plain.hset(keys.app(stage.app_id), mapping={"name": HOSTILE, f"tag:{HOSTILE}": HOSTILE})
    plain.hset(keys.apps, f"main/{HOSTILE}", stage.app_id)
    plain.hset(keys.pool(stage.pools["f"]), mapping={"label": HOSTILE, "function": HOSTILE})
    plain.xadd(keys.dead(shard_of(stage.pools["f"])), {"why": HOSTILE, "p": HOSTILE, "e": HOSTILE})
    plain.hset(keys.names("dict"), f"main/{HOSTILE}", HOSTILE)
    plain.hset(keys.names("queue"), f"main/{HOSTILE}", HOSTILE)
    plain.hset(keys.tokens, HOSTILE, HOSTILE)
    plain.set(keys.leader, HOSTILE)
    chunk = LogChunk("ta-1", "stdout", f"\x1b[32mgreen\x1b[0m {HOSTILE}\n".encode() + b"\xff\n")
    client.run(client.logs.append(stage.app_id, [chunk]))


def test_no_command_prints_what_a_terminal_would_obey(stage: Stage) -> None:
    app, pool_id = stage.app_id, stage.pools["f"]
    commands: list[tuple[click.Command, list[str]]] = [
        *((boxes.listing, []), (fleet_commands.containers, []), (doctor.doctor, [])),
        *((app_commands.listing, []), (app_commands.history, [app])),
        *((app_commands.logs, [app]), (app_commands.logs, [app, "--timestamps"])),
        *((pool.pool, ["list"]), (pool.pool, ["show", pool_id]), (call.call, ["list"])),
        *((dead.dead, ["list"]), (dict_commands.dict_, ["list"]), (queue_commands.queue, ["list"])),
        *((token.token, ["list"]), (schedule.schedule, ["list"])),
        *((pool.pool, ["show", HOSTILE]), (call.call, ["show", HOSTILE])),
    ]
    shown = ""
    for command, argv in commands:
        result = CliRunner().invoke(command, argv, color=True)
        assert result.exception is None or isinstance(result.exception, Exception | SystemExit)
        shown += result.output
        odd = [
            line
            for line in result.output.splitlines()
            if printable(line, lines=True, colours=True) != line
        ]
        assert not odd, (command.name, argv, odd)
    assert "\\x1b]52" in shown
    assert "\x1b[32mgreen\x1b[0m" in shown

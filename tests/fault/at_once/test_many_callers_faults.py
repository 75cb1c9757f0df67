"""Many calls under way together, and their client or their server is killed."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.functions import remote as invocation
from qmodal.functions.target import Target
from qmodal.spec.documents import PoolSpec
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import new_app_id
from tests.support.answering import NAME, Answering, answering
from tests.support.servers import restartable_server
from tests.support.stacks import program, short_folder
from tests.support.store.bench import target_of
from tests.support.waiting import wait_until

MANY = 500
CALLER = """
import asyncio, sys
from qmodal.client import client as clients
from qmodal.functions import remote as invocation
from qmodal.spec.documents import PoolSpec
from tests.support.store.bench import target_of

target = target_of(PoolSpec(app_id=sys.argv[1], function="f"))

async def call(value):
    return await invocation.remote_aio(clients.current(), target, ((value,), {}))

async def main():
    await asyncio.gather(*(call(number) for number in range(int(sys.argv[2]))))

asyncio.run(main())
"""


def emptied(client: Client, pool: str) -> None:
    """Nothing of the pool is left that has no lifetime."""
    client.run(client.pools.purge(pool, reason="over"))
    client.run(client.pools.reclaim(pool, NAME, reason="over", charged=()))
    assert client.run(client.pools.leave(pool))


def wait_until_held(held: Answering, count: int) -> None:
    wait_until(lambda: held.held == count, what=f"{count} inputs are claimed", seconds=20)


def test_a_client_that_is_killed_leaves_nothing_for_ever(client: Client) -> None:
    """That every key has a lifetime is looked at after each test."""
    spec = PoolSpec(app_id=new_app_id(), function="f")
    settings = client.settings
    key = (settings.signing_key or b"").hex()
    environ = {
        "QMODAL_REDIS_URL": settings.redis_url or "",
        "QMODAL_SIGNING_KEY": key,
        "QMODAL_PREFIX": settings.prefix,
        "QMODAL_HOME": str(settings.home),
    }
    own = Client(Settings.from_environ({**os.environ, **environ}))
    with answering(own, spec.pool) as held:
        held.may_settle.clear()
        with program(["-c", CALLER, spec.app_id, str(MANY)], **environ) as process:
            wait_until_held(held, MANY)
            process.send_signal(signal.SIGKILL)
            process.wait()
        held.may_settle.set()
        wait_until(lambda: held.settled == MANY, what="all of them are settled")
    emptied(own, spec.pool)
    streams = own.run(ask_one(b"KEYS", f"{own.keys.prefix}:*:replies:*"))
    assert len(streams) == 1
    assert 0 < own.run(ask_one(b"PTTL", streams[0])) <= 60_000
    own.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def test_a_server_that_is_restarted_loses_no_call(folder: Path, tmp_path: Path) -> None:
    async def program_of(target: Target, held: Answering, restart: Any) -> list[Any]:
        calls = asyncio.ensure_future(
            asyncio.gather(
                *(
                    clients.current().aio(invocation.remote(target, ((number,), {})))
                    for number in range(100)
                )
            )
        )
        await asyncio.to_thread(wait_until_held, held, 100)
        await asyncio.to_thread(restart)
        held.may_settle.set()
        return [*await calls]

    with restartable_server(folder) as server:
        settings = Settings(
            redis_url=server.url, signing_key=secrets.token_bytes(32), home=tmp_path
        )
        client = Client(settings)
        before = clients.use(client)
        target = target_of(PoolSpec(app_id=new_app_id(), function="f"))
        with answering(client, target.pool) as held:
            held.may_settle.clear()
            found = asyncio.run(program_of(target, held, server.restart))
        assert found == list(range(100))
        clients.use(before)
        client.close()

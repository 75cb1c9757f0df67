"""Servers that Sentinels watch: when the master dies, all processes go on with the one that takes its place."""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from qmodal.exception import ConfigurationError
from qmodal.transport.connection import Address, Connection
from qmodal.transport.errors import LostError
from tests.support.installed import QMODAL, Desk, desk
from tests.support.servers import reserved_port, server_binary
from tests.support.waiting import wait_until

PROGRAM = """
import time, qmodal
app = qmodal.App("watched")

@app.function()
def square(x: int) -> int:
    time.sleep(0.02)
    return x * x

@app.function(schedule=qmodal.Period(seconds=1))
def tick() -> None:
    qmodal.Dict.from_name("ticks", create_if_missing=True)["last"] = time.time()
"""
SPAWN = """
import qmodal
square = qmodal.Function.from_name("watched", "square")
square.remote(1)
print(*(square.spawn(x).object_id for x in range(50)))
"""
# Plain calls, calls of a loop and a map, which are all under way while the master dies.
CALLS = """
import asyncio, threading, time, qmodal
square = qmodal.Function.from_name("watched", "square")
square.remote(1)
bad, counts = [], []
end = time.monotonic() + 8
def plain():
    count = 0
    while time.monotonic() < end:
        if square.remote(count) != count * count: bad.append(count)
        count += 1
    counts.append(count)
async def many():
    rounds = 0
    while time.monotonic() < end:
        found = await asyncio.gather(*(square.remote.aio(x) for x in range(30)))
        if found != [x * x for x in range(30)]: bad.append(found)
        rounds += 1
    counts.append(rounds)
def mapped():
    found = list(square.map(range(400)))
    if found != [x * x for x in range(400)]: bad.append(found)
    counts.append(1)
threads = [threading.Thread(target=each) for each in (plain, lambda: asyncio.run(many()), mapped)]
for each in threads: each.start()
print("begun", flush=True)
for each in threads: each.join()
print("done", bad, len(counts), min(counts) > 0)
"""
COLLECT = """
import sys, qmodal
calls = [qmodal.FunctionCall.from_id(call) for call in sys.argv[1:]]
print([call.get(timeout=60) for call in calls] == [x * x for x in range(50)])
"""
LAST_TICK = """
import qmodal
try: print(qmodal.Dict.from_name("ticks").get("last", 0.0))
except qmodal.exception.NotFoundError: print(0.0)
"""


@dataclass
class Watched:
    """Three servers, of which one is the master, and three Sentinels."""

    servers: dict[int, subprocess.Popen[bytes]]
    sentinels: list[int]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://:pw@{places}/mine"

    def master(self) -> int:
        """The port of the master, as a Sentinel says."""
        with redis.Redis(port=self.sentinels[0], decode_responses=True) as sentinel:
            return int(sentinel.sentinel_master("mine")["port"])

    def has_settled(self) -> bool:
        """Whether all Sentinels know of both replicas and of each other."""
        for port in self.sentinels:
            with suppress(redis.RedisError), redis.Redis(port=port) as sentinel:
                about = sentinel.sentinel_master("mine")
                if about["num-slaves"] == 2 and about["num-other-sentinels"] == 2:
                    continue
            return False
        return True

    def replicate(self) -> None:
        """Wait until both replicas have all that the master has."""
        with redis.Redis(port=self.master(), password="pw") as plain:
            plain.set("marker", 1, px=60_000)
            assert plain.wait(2, 10_000) == 2

    def kill_master(self) -> None:
        before = self.master()
        self.servers[before].send_signal(signal.SIGKILL)
        wait_until(lambda: self.master() != before, what="another master", seconds=60)


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        ports = [stack.enter_context(reserved_port()) for _ in range(6)]
        first, *others = ports[:3]

        def start(port: int, text: str, *options: str) -> subprocess.Popen[bytes]:
            own = folder / str(port)
            own.mkdir()
            (own / "conf").write_text(f"port {port}\nbind 127.0.0.1\ndir {own}\n{text}")
            argv = [str(server_binary()), str(own / "conf"), *options]
            process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
            return process

        common = 'save ""\nrequirepass pw\nmasterauth pw\nrepl-diskless-sync-delay 0\n'
        safe = "min-replicas-to-write 1\nmin-replicas-max-lag 2\n"
        servers = {first: start(first, common + safe)}
        for port in others:
            servers[port] = start(port, f"{common}{safe}replicaof 127.0.0.1 {first}\n")
        for port in ports[3:]:
            text = [
                f"sentinel monitor mine 127.0.0.1 {first} 2",
                "sentinel auth-pass mine pw",
                "sentinel down-after-milliseconds mine 1000",
                "sentinel failover-timeout mine 5000",
            ]
            start(port, "\n".join(text) + "\n", "--sentinel")
        made = Watched(servers, ports[3:])
        wait_until(made.has_settled, what="Sentinels that know all", seconds=60, pause=0.1)
        yield made


@contextmanager
def _running(here: Desk, *command: str) -> Iterator[None]:
    with here.start(QMODAL, *command) as process:
        yield
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    assert "Traceback" not in output, output


@pytest.mark.timeout(240)
def test_calls_maps_and_schedules_go_on_when_the_master_dies(tmp_path: Path) -> None:
    with (
        watched(tmp_path) as servers,
        desk(QMODAL_SIGNING_KEY=secrets.token_hex(32), QMODAL_REDIS_URL=servers.url) as here,
        ExitStack() as stack,
    ):
        (here.base / "watched.py").write_text(PROGRAM)
        for command in ("autoscaler", "worker", "control"):
            stack.enter_context(_running(here, command))
        here.run(QMODAL, "deploy", "watched.py")
        calls = here.python(SPAWN).split()
        servers.replicate()
        with here.start("python", "-P", "-c", CALLS) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "begun\n"
            servers.kill_master()
            output, _ = program.communicate(timeout=120)
        assert output.endswith("done [] 3 True\n"), output
        assert here.python(COLLECT, *calls) == "True"
        ticked = float(here.python(LAST_TICK).split()[-1])
        wait_until(
            lambda: float(here.python(LAST_TICK).split()[-1]) > ticked,
            what="a schedule after the failover",
            seconds=60,
            pause=0.2,
        )


def test_sentinels_that_know_no_master_of_that_name_say_so(tmp_path: Path) -> None:
    with watched(tmp_path) as servers:
        connection = Connection(Address(servers.url.replace("/mine", "/other")))
        with pytest.raises(LostError, match="No master found for 'other'"):
            connection.connect()


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (":26379/m", "names no Sentinels"),
        ("h:0/m", "names no Sentinels"),
        ("h,/m", "names no Sentinels"),
        ("h:port/m", "names no Sentinels"),
        ("h", "names no master"),
        ("h/m/1", "names no master"),
    ],
)
def test_a_url_of_sentinels_that_cannot_be_says_what_to_write(rest: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Connection(Address(f"redis+sentinel://{rest}"))

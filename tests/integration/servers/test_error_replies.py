"""Error replies of a real server: each is provoked, and judged as the table says."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qmodal.transport.connection import LOST, Address, Connection
from qmodal.transport.errors import ReplyAction, judge
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.waiting import wait_until

SET = (b"SET", b"k", b"v")
SCRIPT_SET = (b"EVAL", b"redis.call('SET', 'k', 'v')", 0)


@pytest.fixture
def own() -> Iterator[TestServer]:
    """A server to spoil."""
    with run_server(server_binary()) as running:
        yield running


@pytest.fixture
def line(own: TestServer) -> Iterator[Connection]:
    """A raw line to it."""
    made = Connection(Address(own.url))
    made.connect()
    yield made
    made.close()


def provoke(line: Connection, *command: object) -> ReplyAction:
    """What the answer to a command means."""
    try:
        (reply,) = line.exchange([command])
    except LOST as error:
        return judge(error)
    assert isinstance(reply, Exception), reply
    return judge(reply)


def test_a_script_that_is_not_there(line: Connection) -> None:
    assert provoke(line, b"EVALSHA", b"0" * 40, 0) is ReplyAction.LOAD


@pytest.mark.parametrize("write", [SET, SCRIPT_SET], ids=["command", "script"])
def test_writes_that_a_server_in_trouble_refuses(
    line: Connection, write: tuple[object, ...]
) -> None:
    line.exchange([(b"CONFIG", b"SET", b"min-replicas-to-write", 1)])
    assert provoke(line, *write) is ReplyAction.RECONNECT
    line.exchange([(b"CONFIG", b"SET", b"min-replicas-to-write", 0)])
    line.exchange([(b"CONFIG", b"SET", b"maxmemory", 1)])
    assert provoke(line, *write) is ReplyAction.FULL
    line.exchange([(b"CONFIG", b"SET", b"maxmemory", 0)])
    line.exchange([(b"REPLICAOF", b"127.0.0.1", 1)])
    assert provoke(line, *write) is ReplyAction.RECONNECT
    line.exchange([(b"CONFIG", b"SET", b"replica-serve-stale-data", b"no")])
    assert provoke(line, *write) is ReplyAction.RECONNECT


@pytest.mark.parametrize("write", [SET, SCRIPT_SET], ids=["command", "script"])
def test_writes_while_snapshots_fail(
    line: Connection, write: tuple[object, ...], tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line.exchange([(b"CONFIG", b"SET", b"dir", str(gone)), (b"CONFIG", b"SET", b"save", b"900 1")])
    shutil.rmtree(gone)
    line.exchange([SET, (b"BGSAVE",)])
    look = (b"INFO", b"persistence")
    wait_until(lambda: b"last_bgsave_status:err" in line.exchange([look])[0], what="a failed save")
    assert provoke(line, *write) is ReplyAction.REFUSED


@pytest.mark.parametrize(
    "loss",
    [
        lambda line: line.exchange([(b"DEL", b"s")]),
        lambda line: line.exchange([(b"XGROUP", b"DESTROY", b"s", b"g")]),
        lambda line: line.exchange([(b"FLUSHALL",)]),
    ],
    ids=["stream deleted", "group destroyed", "all data lost"],
)
def test_a_group_that_goes_away(
    own: TestServer, line: Connection, loss: Callable[[Connection], object]
) -> None:
    create = (b"XGROUP", b"CREATE", b"s", b"g", b"0", b"MKSTREAM")
    read = (b"XREADGROUP", b"GROUP", b"g", b"c", b"BLOCK", 5000, b"STREAMS", b"s", b">")
    line.exchange([create])
    found: list[ReplyAction] = []
    reader = Connection(Address(own.url))
    thread = threading.Thread(target=lambda: found.append(provoke(reader, *read)))
    thread.start()
    wait_until(
        lambda: b"blocked_clients:1" in line.exchange([(b"INFO", b"clients")])[0], what="a reader"
    )
    loss(line)
    thread.join()
    assert found == [ReplyAction.GONE]
    assert provoke(reader, *read) is ReplyAction.GONE
    script = b"return redis.call('XREADGROUP','GROUP','g','c','STREAMS','s','>')"
    assert provoke(reader, b"EVAL", script, 0) is ReplyAction.GONE
    reader.close()


def test_a_server_that_is_busy_with_a_script(own: TestServer, line: Connection) -> None:
    line.exchange([(b"CONFIG", b"SET", b"busy-reply-threshold", 1)])
    other = Connection(Address(own.url))
    thread = threading.Thread(target=other.exchange, args=([(b"EVAL", b"while true do end", 0)],))
    thread.start()
    found: list[ReplyAction] = []

    def is_busy() -> bool:
        (reply,) = line.exchange([(b"GET", b"k")])
        if isinstance(reply, Exception):
            found.append(judge(reply))
        return bool(found)

    wait_until(is_busy, what="a refusal")
    line.exchange([(b"SCRIPT", b"KILL")])
    thread.join()
    other.close()
    assert found == [ReplyAction.WAIT]

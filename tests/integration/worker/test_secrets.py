"""Secrets on their way: unreadable on the server and in the worker, variables in the container, and never an old one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import redis

import qmodal as modal
from qmodal.client.client import Client
from qmodal.spec.options import FunctionOptions, validated_options
from qmodal.transport.operation import ask_one
from tests.support.boxes import Box, Fleet
from tests.support.servers import TestServer, no_process_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

STORED, OWN, CHANGED = "stored value of a secret", "own value of a secret", "changed value"
SOURCE = """
import os

AT_IMPORT = os.environ.get("TOKEN", "")

def values(*names):
    return [AT_IMPORT, *(os.environ.get(name, "") for name in names)]

def digest(text):
    return [os.environ.get("PYTHONHASHSEED", ""), str(hash(text))]
"""


@pytest.fixture
def box(fleet: Fleet) -> Iterator[Box]:
    """A worker."""
    with no_process_left(), fleet.box() as made:
        yield made


def store(client: Client, name: str, variables: Mapping[str, str]) -> bytes:
    """Store the secret; its record."""
    client.run(client.secrets.create("main", name, variables, replace=True))
    record: bytes = client.run(ask_one(b"HGET", client.keys.secrets, f"main/{name}"))
    return record


def put(client: Client, name: str, record: bytes) -> None:
    """Write a record as somebody would who has the server's password only."""
    client.run(ask_one(b"HSET", client.keys.secrets, f"main/{name}", record))


def options(client: Client, *secrets: modal.Secret, fork: bool = True) -> FunctionOptions:
    """As an app publishes them."""
    given = validated_options(secrets=secrets, fork=fork, env={"LAST": "env"})
    return given.published(client.signer, "shop")


@contextmanager
def monitored(server: TestServer) -> Iterator[list[str]]:
    """All commands that the server gets meanwhile."""
    seen: list[str] = []
    with server.plain() as plain, plain.monitor() as monitor:
        begun, over = threading.Event(), "the end of what is looked at"

        def listen() -> None:
            begun.set()
            for command in monitor.listen():
                seen.append(str(command["command"]))
                if over in seen[-1]:
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        begun.wait()
        try:
            yield seen
        finally:
            with server.plain() as other:
                other.echo(over)
            thread.join()


def is_gone(fleet: Fleet, box: Box, container: str) -> bool:
    """Whether the box reports that container no more."""
    return fleet.report(box, container) is None


def what_proc_shows(pid: int) -> str:
    """The variables that the process began with and its arguments; nothing if it is gone."""
    with suppress(OSError):
        files = [Path(f"/proc/{pid}/{name}") for name in ("environ", "cmdline")]
        return "".join(file.read_text() for file in files)
    return ""


def everything(plain: redis.Redis) -> bytes:
    """What the server has."""
    return b"".join(plain.dump(key) or b"" for key in plain.scan_iter())


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_a_value_is_in_its_container_and_readable_nowhere_else(
    fleet: Fleet, box: Box, server: TestServer, tmp_path: Path, *, fork: bool
) -> None:
    client = fleet.client
    with monitored(server) as commands:
        store(client, "aws", {"TOKEN": STORED, "LAST": "secret", "KEPT": STORED})
        own = modal.Secret.from_dict({"OWN": OWN, "KEPT": "own value wins"})
        given = options(client, modal.Secret.from_name("aws"), own, fork=fork)
        pool = fleet.publish(tmp_path / "src", SOURCE, {"values": given})["values"]
        report = fleet.ready(box, pool)
        pids = [report.pid, box.process.pid, *box.family()]
        shown = [what_proc_shows(pid) for pid in pids]
        assert shown[0]
        with server.plain() as plain:
            kept = everything(plain)
    (record,) = client.run(client.secrets.all())
    assert client.run(client.secrets.last_used([record])) != [None]
    assert "secrets" in "".join(commands)
    for value in (STORED, OWN, "own value wins"):
        assert value.encode() not in kept
        assert value not in "".join([*commands, *shown, repr(report)])
    got = fleet.value(fleet.call(pool, "OWN", "KEPT", "LAST"))
    assert got == [STORED, OWN, "own value wins", "env"]


def test_a_change_reaches_the_containers_that_start_after_it(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    client = fleet.client
    store(client, "aws", {"TOKEN": STORED})
    given = options(client, modal.Secret.from_name("aws", required_keys=["TOKEN"]))
    pool = fleet.publish(tmp_path / "src", SOURCE, {"values": given})["values"]
    first = fleet.ready(box, pool)
    for value in (CHANGED, STORED):
        client.run(client.secrets.change("main", "aws", {"TOKEN": value}))
        fleet.take_off(box, first.container)
        wait_until(partial(is_gone, fleet, box, first.container), what="the one before ends")
        first = fleet.ready(box, pool)
        assert fleet.value(fleet.call(pool, "TOKEN")) == [value, value]
    client.run(client.secrets.delete("main", "aws"))
    gone = fleet.until(box, fleet.assign(box, pool), "failed")
    assert "Store it: `qmodal secret create aws TOKEN=... --env main`" in gone.detail
    store(client, "aws", {"OTHER": STORED})
    lacking = fleet.until(box, fleet.assign(box, pool), "failed")
    assert "lacks TOKEN" in lacking.detail
    assert fleet.value(fleet.call(pool, "TOKEN")) == [STORED, STORED], "the old one goes on"


def test_a_record_that_was_forged_swapped_or_put_back_starts_nothing(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    client = fleet.client
    other = store(client, "other", {"TOKEN": "of another secret"})
    old = store(client, "aws", {"TOKEN": STORED})
    given = options(client, modal.Secret.from_name("aws"))
    pool = fleet.publish(tmp_path / "src", SOURCE, {"values": given})["values"]
    new = store(client, "aws", {"TOKEN": CHANGED})
    fleet.ready(box, pool)
    reasons = {
        other: "it is another one's",
        old: "an older one than this worker has seen",
        new[:-1] + bytes([new[-1] ^ 1]): "written by something else",
        b"": "written by something else",
    }
    for record, reason in reasons.items():
        put(client, "aws", record)
        assert reason in fleet.until(box, fleet.assign(box, pool), "failed").detail
    put(client, "aws", new)
    fleet.ready(box, pool)


def test_sealed_values_of_another_app_do_not_open(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    client = fleet.client
    given = validated_options(secrets=[modal.Secret.from_dict({"TOKEN": OWN})])
    published = given.published(client.signer, "another")
    pool = fleet.publish(tmp_path / "src", SOURCE, {"values": published})["values"]
    detail = fleet.until(box, fleet.assign(box, pool), "failed").detail
    assert "a secret with TOKEN cannot be opened" in detail
    assert OWN not in detail


def test_functions_with_different_values_share_no_template(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    client = fleet.client
    given = {
        name: options(client, modal.Secret.from_dict({"TOKEN": f"token of {name}"}))
        for name in ("values", "digest")
    }
    pools = fleet.publish(tmp_path / "src", SOURCE, given)
    for pool in pools.values():
        fleet.ready(box, pool)
    assert fleet.value(fleet.call(pools["values"], "TOKEN")) == ["token of values"] * 2
    templates = len(box.family())
    fleet.ready(box, pools["values"])
    assert len(box.family()) == templates + 1, "its template was still there"


def test_a_variable_that_is_read_when_a_process_starts_works_from_a_secret(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    client = fleet.client
    store(client, "seed", {"PYTHONHASHSEED": "7"})
    given = options(client, modal.Secret.from_name("seed"))
    pool = fleet.publish(tmp_path / "src", SOURCE, {"digest": given})["digest"]
    texts = set()
    for _ in range(2):
        fleet.ready(box, pool)
        seed, text = fleet.value(fleet.call(pool, "x"))
        texts.add(text)
        assert seed == "7"
    assert len(texts) == 1


def test_a_full_server_keeps_no_container_with_a_secret_from_starting(
    fleet: Fleet, box: Box, server: TestServer, tmp_path: Path
) -> None:
    store(fleet.client, "aws", {"TOKEN": STORED})
    given = options(fleet.client, modal.Secret.from_name("aws"))
    pool = fleet.publish(tmp_path / "src", SOURCE, {"values": given})["values"]
    container = fleet.assign(box, pool)
    with server.full():
        fleet.until(box, container, "ready")

"""The users of `qmodal acl`: each role does its whole work as one, and none of them what others do."""

from __future__ import annotations

import re
import secrets
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from qmodal.cli.commands.rights.nouns import patterns
from qmodal.cli.commands.rights.roles import ADMIN, ROLES
from qmodal.cli.commands.rights.rules import line
from qmodal.store.keys import Keys
from tests.support.installed import QMODAL, Desk, desk
from tests.support.servers import TestServer, reserved_port, run_server, server_binary
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).with_name("one_of_each.py")
CALLS = """
import asyncio, qmodal
f = lambda name: qmodal.Function.from_name("rights", name)
Adder = qmodal.Cls.from_name("rights", "Adder")
assert f("relay").remote(3) == 9
assert sum(f("square").map(range(300))) == sum(x * x for x in range(300))
assert list(f("count").remote_gen(5)) == list(range(5))
big = b"x" * 2_000_000
assert f("size").remote(big) == big
assert f("secret").remote() == "plugh"
assert Adder(by=2).add.remote(1) == 3
assert [*f("fail").map(["a", "b"], return_exceptions=True)]
kept = f("fail").spawn("z" * 100_000)
try: kept.get(timeout=60)
except ValueError: pass
calls = [f("square").spawn(x) for x in range(5)]
assert [call.get(timeout=60) for call in calls] == [0, 1, 4, 9, 16]
calls[0].get_call_graph()
f("square").spawn_map([1, 2])
f("square").get_current_stats()
f("page").get_web_url()
sleeping = f("rest").spawn()
sleeping.cancel()
async def many():
    return await asyncio.gather(*(f("together").remote.aio(x) for x in range(60)))
assert asyncio.run(many()) == list(range(60))
d = qmodal.Dict.from_name("mine", create_if_missing=True)
for x in range(100): d[x] = x
assert d.pop(5) == 5 and 7 in d and len(list(d.items())) == d.len()
d.put(1, 2, skip_if_exists=True)
d.clear()
q = qmodal.Queue.from_name("own", create_if_missing=True)
q.put_many(range(10)); q.put("x", partition="p")
assert q.get() == 0 and list(q.iterate()) and q.len(total=True)
q.clear()
with qmodal.Queue.ephemeral() as short, qmodal.Dict.ephemeral() as little:
    short.put(1); little["a"] = 1
    assert short.get() == 1 and little["a"] == 1
qmodal.Dict.objects.list(); qmodal.Dict.objects.delete("mine"); qmodal.Queue.objects.delete("own")
print("done")
"""
KEYS = Keys()


class Users:
    """A server on which there are only the users of the roles, and a desk that has a URL for each."""

    def __init__(self, server: TestServer, here: Desk, key: str) -> None:
        self._server = server
        self._here = here
        self._key = key
        self._password = secrets.token_urlsafe(12)
        with server.plain() as plain:
            for role in (*ROLES, ADMIN):
                _, name, *rules = line(role, role, self._password, KEYS).split(" ", 2)
                plain.execute_command("ACL", "SETUSER", name, *_arguments(rules[0]))
            plain.execute_command("ACL", "SETUSER", "watcher", "on", ">w", "+@all", "~*", "&*")
            plain.execute_command("ACL", "SETUSER", "default", "off")

    def url(self, role: str) -> str:
        return self._server.url.replace("unix://", f"unix://{role}:{self._password}@")

    def desk(self, role: str, **more: str) -> Desk:
        settings = {"QMODAL_REDIS_URL": self.url(role), "QMODAL_SIGNING_KEY": self._key, **more}
        return replace(self._here, settings=settings)

    @contextmanager
    def watcher(self) -> Iterator[redis.Redis]:
        url = self._server.url.replace("unix://", "unix://watcher:w@")
        with redis.Redis.from_url(url, decode_responses=True) as plain:
            yield plain

    def denied(self) -> list[str]:
        """What was refused since the server has started, in words."""
        with self.watcher() as plain:
            log: Any = plain.acl_log()
        return sorted(
            f"{each['username']}: {each['reason']} {each['object']} ({each['context']})"
            for each in log
        )


def _arguments(rules: str) -> list[str]:
    """The words of a rule; what is in brackets is one."""
    return re.findall(r"\([^)]*\)|\S+", rules)


@pytest.fixture
def users() -> Iterator[Users]:
    with run_server(server_binary(), "--acllog-max-len", "10000") as server, desk() as here:
        made = Users(server, here, secrets.token_hex(32))
        yield made
        print("DENIED", *made.denied(), sep="\n")


@contextmanager
def running(here: Desk, *command: str) -> Iterator[None]:
    with here.start(QMODAL, *command) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "NOPERM" not in output, output


@pytest.mark.timeout(240)
def test_each_role_does_its_whole_work_as_its_own_user(users: Users) -> None:
    deployer, admin = users.desk("deployer"), users.desk("admin")
    with reserved_port() as port, ExitStack() as stack:
        deployer.run(QMODAL, "secret", "create", "stored", "WORD=plugh")
        for role, argv in {
            "autoscaler": ["autoscaler"],
            "worker": ["worker"],
            "control": ["control"],
            "web": ["web", "--port", str(port)],
        }.items():
            stack.enter_context(running(users.desk(role), *argv))
        deployer.run(QMODAL, "deploy", PROGRAM)
        assert users.desk("producer").python(CALLS) == "done"
        assert "sum 30 4" in deployer.run(QMODAL, "run", PROGRAM)
        token = dict(re.findall(r"(Modal-\w+): (\S+)", admin.run(QMODAL, "token", "new")))
        assert _answer(port, "/rights/page?x=12", token) == b"144"
        assert len(_answer(port, "/rights/stream/", token)) == 200_000
        wait_until(lambda: _has_ticked(admin), what="a schedule", seconds=60)
        with users.watcher() as plain:
            chores = KEYS.chores
            wait_until(lambda: plain.hlen(chores) >= 6, what="all chores", seconds=60)
        for command in ("app list", "app logs rights", "call list", "pool list", "dead list"):
            admin.run(QMODAL, *command.split())
        admin.run(QMODAL, "doctor")
        for command in ("app list", "app logs rights", "app history rights", "worker list"):
            deployer.run(QMODAL, *command.split())
        deployer.run(QMODAL, "deploy", PROGRAM)
        deployer.run(QMODAL, "app", "stop", "rights", "--yes")
    assert users.denied() == []


# Commands on nouns that a role must not send, beside those that only people use.
FORBIDDEN = {
    "producer": """hset app, hset apps, set versions, set code, get code, hset settings, hset schedules, set routes, get logs,
        hset assigned, hset worker, hset containers, zadd workers, set leader, set epoch, hset signing, hset secrets,
        hget secrets, hget tokens, hset tokens, set gateway, xadd inboxes, xadd dead, xadd failed, lpush jobs, hset statistics""",
    "worker": """hset app, hset apps, set versions, set code, del code, hset settings, hset schedules, set routes, hset assigned,
        set leader, set epoch, hset signing, hset secrets, hget tokens, hset tokens, set gateway, lpush jobs, set ticker""",
    "autoscaler": """set versions, hset apps, set code, get secrets, hset secrets, hget tokens, set routes, hset settings,
        hset objects, hset names, set gateway, xadd inboxes, xadd logs, lpush jobs, set ticker""",
    "web": """hset app, hset apps, set versions, set code, get code, hset settings, hset assigned, hset worker, zadd workers,
        set leader, set epoch, hset signing, hget secrets, hset secrets, hset tokens, set routes, hset objects, lpush jobs""",
    "control": """hset app, hset apps, set versions, set code, del code, hset settings, set routes, hset assigned, zadd workers,
        set leader, set epoch, hset signing, hget secrets, hset secrets, hget tokens, hset objects, set gateway""",
    "deployer": """hset assigned, hset worker, zadd workers, set leader, set epoch, hget tokens, hset tokens, lpush jobs,
        set ticker, set gateway, xadd dead""",
}
COMMANDS = (
    ["eval", "return 1", "0"],
    ["flushall"],
    ["flushdb"],
    ["keys", "*"],
    ["config", "set", "maxmemory", "1"],
    ["config", "get", "requirepass"],
    ["acl", "setuser", "x"],
    ["monitor"],
    ["debug", "sleep", "0"],
    ["shutdown"],
    ["script", "flush"],
    ["function", "load", "x"],
    ["replicaof", "h", "1"],
    ["get", "qmodalx"],
    ["set", "other:{fleet}:apps", "x"],
    ["publish", "other:wake", "x"],
)
ARGUMENTS = {
    "hset": ["f", "v"],
    "set": ["v"],
    "zadd": ["0", "m"],
    "xadd": ["*", "f", "v"],
    "hget": ["f"],
    "lpush": ["x"],
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_not_do_what_others_do(users: Users, role: str) -> None:
    keys = {noun: _example(pattern) for noun, pattern in patterns(KEYS).items()}
    asked = list(COMMANDS)
    for each in FORBIDDEN[role].split(","):
        command, noun = each.split(maxsplit=1)
        asked.append([command, keys[noun], *ARGUMENTS.get(command, [])])
    with users.watcher() as plain:
        allowed = [
            command
            for command in asked
            if plain.execute_command("ACL", "DRYRUN", role, *command) == "OK"
        ]
    assert allowed == []


def _example(pattern: str) -> str:
    """A key that the pattern is for."""
    return pattern.replace("[0-9]", "0").replace("?", "x").replace("*", "x")


def test_a_line_of_an_acl_file_is_one_that_the_server_loads(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("swordfish\n")
    with desk(QMODAL_PREFIX="mine") as here:
        lines = [
            here.run(QMODAL, "acl", role, "--password-file", tmp_path / "password")
            for role in (*ROLES, ADMIN)
        ]
        named = here.run(QMODAL, "acl", "worker", "--user", "box", "--prefix", "his")
    assert named.startswith("user box reset on #")
    assert "his:{fleet}" in named
    assert "\nbox:" in named
    (tmp_path / "users.acl").write_text("".join(["user default off\n", *lines]))
    with run_server(server_binary(), "--aclfile", str(tmp_path / "users.acl")) as server:
        url = server.url.replace("unix://", "unix://mine-producer:swordfish@")
        with redis.Redis.from_url(url) as plain:
            assert plain.ping()


@pytest.mark.parametrize("user", ["a b", "", "'"])
def test_a_name_that_no_rule_can_hold_is_refused(user: str) -> None:
    with desk() as here, here.start(QMODAL, "acl", "web", "--user", user or " ") as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "--user" in output


def _has_ticked(here: Desk) -> bool:
    return "ticks" in here.run(QMODAL, "dict", "list")


def _answer(port: int, path: str, headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)

    def asked() -> bytes | None:
        with suppress(urllib.error.URLError), urllib.request.urlopen(request) as response:
            return bytes(response.read())
        return None

    found = wait_until(asked, what=f"an answer to {path}", seconds=60)
    assert found is not None
    return found

"""Scripts as the users of `qmodal acl` run them: each role those that it has, and none that are another's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from qmodal.cli.commands.rights.roles import ROLES
from qmodal.cli.commands.rights.rules import rule
from qmodal.client.client import Client
from qmodal.transport.connection import Address, Connection
from qmodal.transport.errors import ReplyAction, judge
from qmodal.transport.script import script
from tests.support.store.bench import Bench
from tests.support.store.cases import CASES
from tests.support.store.pack_cases import PACK_CASES

_CALLS = {"submit", "submit_each", "open", "cancel"}
_OBJECTS = {
    *{"make_object", "name_object", "put_item", "put_items", "peek_items", "forget_partitions"},
    *{"put_entry", "put_entries", "put_absent", "take_entry", "touch_entry", "count_entries"},
    *{"read_entries", "take"},
}
SCRIPTS = {
    "producer": _CALLS | _OBJECTS,
    "worker": _CALLS
    | _OBJECTS
    | {"settle", "retry", "release", "split", "bury", "emit", "mark", "note", "join", "reclaim"}
    | {"succeed", "describe", "enroll", "renew", "retire", "sweep", "count"},
    "autoscaler": {"lead", "resign", "assign", "observe", "promote", "leave", "purge", "reclaim"}
    | {"sweep", "stop", "note", "count", "open", "join"},
    "web": _CALLS | {"take"},
    "control": {"submit", "open", "note_run", "expire_part", "drop_arguments", "forget", "disuse"}
    | {"disown", "join"},
    "deployer": _CALLS
    | _OBJECTS
    | {"accept", "deploy", "route", "prolong", "stop", "tag", "override", "keep_secret", "hold"}
    | {"join"},
}
# What nobody else may do.
_OWN = {
    "deployer": {"deploy", "route", "tag", "override", "keep_secret", "accept"},
    "autoscaler": {"lead", "assign", "accept"},
    "worker": {"enroll", "renew"},
    "control": {"note_run"},
}
# Others that have the keys for something else.
_ALSO = {"autoscaler": {"enroll", "renew", "tag"}, "deployer": {"note_run"}}


@contextmanager
def as_user(bench: Bench, role: str) -> Iterator[Connection]:
    """A connection that is logged in as a user of that role; ids in the cases are shorter than real ones."""
    text = rule(role, bench.client.keys).replace("?" * 22, "?" * 6).replace("?" * 10, "?" * 6)
    words = re.findall(r"\([^)]*\)|\S+", text)
    bench.ask(b"ACL", b"SETUSER", role, b"reset", b"on", b">pw", *words)
    url = (bench.client.settings.redis_url or "").replace("://", f"://{role}:pw@")
    try:
        line = Connection(Address(url))
        yield line
        line.close()
    finally:
        bench.ask(b"ACL", b"DELUSER", role)


def denied(bench: Bench) -> list[dict[bytes, Any]]:
    """What was refused since the log was reset."""
    return [dict(zip(each[::2], each[1::2], strict=True)) for each in bench.ask(b"ACL", b"LOG")]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_its_own_scripts_and_no_others(client: Client, role: str) -> None:
    own = {script(name).sha for name in SCRIPTS[role]}
    known = SCRIPTS[role] | _ALSO.get(role, set())
    foreign = {script(name).sha for name in set().union(*_OWN.values()) - known}
    with as_user(Bench(client), role) as user:
        for case in (*CASES, *PACK_CASES):
            bench = Bench(client)
            command = case(bench)
            bench.ask(b"ACL", b"LOG", b"RESET")
            (reply,) = user.exchange([command])
            if command[1] in own:
                assert denied(bench) == [], case.__name__
                assert not isinstance(reply, Exception), case.__name__
            elif command[1] in foreign:
                assert isinstance(reply, Exception), case.__name__
                assert judge(reply) is ReplyAction.DENIED
            bench.ask(b"UNLINK", b"", *bench.ask(b"KEYS", f"{client.keys.prefix}:*"))

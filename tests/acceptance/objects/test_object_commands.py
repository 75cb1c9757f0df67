"""`qmodal dict` and `qmodal queue`: what programs keep by name, listed, shown and changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.client.client import Client
from tests.support.commands import qmodal as command


@dataclass
class Point:
    x: int


@pytest.fixture
def say(client: Client, tmp_path: Path) -> Iterator[Any]:
    """Runs a command and returns what it prints; what is left afterwards is deleted."""
    clients.use(client)

    def run(*argv: str, code: int = 0) -> str:
        done = command(*argv, settings=client.settings, cwd=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    yield run
    for kind in (qmodal.Dict, qmodal.Queue):
        for each in kind.objects.list():
            kind.objects.delete(each.name or "")


def test_dictionaries_are_listed_read_changed_and_deleted(say: Any) -> None:
    assert "Created prices (di-" in say("dict", "create", "prices")
    assert "There is prices" in say("dict", "create", "prices")
    say("dict", "put", "prices", "apple", "3", "--json")
    say("dict", "put", "prices", "note", "3")
    d = qmodal.Dict.from_name("prices")
    assert (d["apple"], d["note"]) == (3, "3")
    d["point"], d[7] = Point(1), [1, (2,)]
    assert say("dict", "get", "prices", "note") == "'3'\n"
    assert say("dict", "get", "prices", "7", "--json-key") == "[1, (2,)]\n"
    assert say("dict", "get", "prices", "point").startswith("<a pickled Point, ")
    assert "no key 'pear'" in say("dict", "get", "prices", "pear", code=1)
    assert "7: [1, (2,)]" in say("dict", "items", "prices")
    assert len(json.loads(say("dict", "items", "prices", "2", "--json"))) == 2
    (row,) = json.loads(say("dict", "list", "--json"))
    assert (row["name"], row["entries"], row["id"]) == ("prices", 4, d.object_id)
    say("dict", "clear", "prices", "-y")
    assert d.len() == 0
    assert "Deleted prices" in say("dict", "delete", "prices", "-y")
    assert "there is no Dict 'prices'" in say("dict", "delete", "prices", "-y", code=1)
    say("dict", "delete", "prices", "-y", "--allow-missing")
    assert "prices" not in say("dict", "list")


def test_queues_are_listed_looked_into_emptied_and_deleted(say: Any) -> None:
    q = qmodal.Queue.from_name("jobs", create_if_missing=True)
    q.put_many([1, "two", Point(3)])
    q.put("other", partition="p")
    assert say("queue", "peek", "jobs") == "1\n"
    lines = say("queue", "peek", "jobs", "9").splitlines()
    assert lines[:2] == ["1", "'two'"]
    assert lines[2].startswith("<a pickled Point, ")
    assert say("queue", "peek", "jobs", "-p", "p") == "'other'\n"
    assert say("queue", "len", "jobs", "--total") == "4\n"
    (row,) = json.loads(say("queue", "list", "--json"))
    assert (row["name"], row["partitions"], row["items"]) == ("jobs", 2, 4)
    say("queue", "clear", "jobs", "-y")
    assert q.len(total=True) == 1
    say("queue", "clear", "jobs", "--all", "-y")
    assert say("queue", "len", "jobs", "--total") == "0\n"
    assert "Deleted jobs" in say("queue", "delete", "jobs", "-y")
    assert qmodal.Queue.objects.list() == []

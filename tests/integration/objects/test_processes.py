"""Several processes at one queue, and owners and getters that are killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import qmodal
from qmodal.client.client import Client
from qmodal.transport.operation import ask_one
from tests.integration.objects.test_queues import waiting
from tests.support.stacks import first_line, program
from tests.support.waiting import wait_until

GETTER = """
import sys, qmodal
print(qmodal.Queue.from_id(sys.argv[1]).get(), flush=True)
"""
PUTTER = """
import itertools, sys, qmodal
q, d = qmodal.Queue.from_id(sys.argv[1]), qmodal.Dict.from_id(sys.argv[2])
for n in itertools.count():
    q.put(n)
    d[n] = n
    print(n, flush=True)
"""
OWNER = """
from qmodal.store.objects import names
names.EPHEMERAL_MS, names.PROLONG_SECONDS = 4000, 0.2
import sys, qmodal
with getattr(qmodal, sys.argv[1]).ephemeral() as made:
    made.put(*sys.argv[2:])
    print(made.object_id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def started(client: Client) -> Iterator[Any]:
    """Starts programs on the test's server, which are ended afterwards."""
    with ExitStack() as stack:

        def start(code: str, *argv: str) -> subprocess.Popen[str]:
            environ = client.settings.to_environ()
            return stack.enter_context(program(["-c", code, *argv], **environ))

        yield start


def test_processes_that_wait_are_served_in_the_order_in_which_they_came(
    client: Client, q: qmodal.Queue, started: Any
) -> None:
    getters = []
    for count in range(1, 4):
        getters.append(started(GETTER, q.object_id))
        wait_until(lambda count=count: waiting(client) == count, what=f"{count} wait")  # type: ignore[misc]
    q.put_many(["a", "b", "c"])
    assert [first_line(each) for each in getters] == ["a", "b", "c"]


def test_a_killed_getter_takes_nothing_with_it(
    client: Client, q: qmodal.Queue, started: Any
) -> None:
    first, second = started(GETTER, q.object_id), started(GETTER, q.object_id)
    wait_until(lambda: waiting(client) == 2, what="both wait")
    first.kill()
    wait_until(lambda: waiting(client) == 1, what="the server knows")
    q.put("a")
    assert first_line(second) == "a"
    assert q.len() == 0


def test_what_a_killed_putter_was_told_is_there(
    q: qmodal.Queue, d: qmodal.Dict, started: Any
) -> None:
    putter = started(PUTTER, q.object_id, d.object_id)
    while int(first_line(putter)) < 100:
        continue
    putter.kill()
    told = 1 + max([100, *map(int, putter.communicate()[0].split())])
    found = q.get_many(5000)
    assert found == list(range(len(found)))
    assert len(found) >= told
    assert {d[n] for n in range(told)} == set(range(told))


@pytest.mark.parametrize(("kind", "given"), [("Dict", ("key", "1")), ("Queue", ("item",))])
def test_an_ephemeral_object_ends_after_its_owner_was_killed(
    client: Client, started: Any, kind: str, given: tuple[str, ...]
) -> None:
    owner = started(OWNER, kind, *given)
    made = first_line(owner)

    def lives() -> list[int]:
        names = client.run(ask_one(b"KEYS", f"*{made}*"))
        return [client.run(ask_one(b"PTTL", name)) for name in names]

    assert len(lives()) >= 2
    before = lives()
    wait_until(lambda: all(left > 3000 for left in lives()), what="all of it is prolonged")
    assert all(0 < left <= 4000 for left in before)
    owner.kill()
    wait_until(lambda: lives() == [], what="nothing is left")
    with pytest.raises(qmodal.exception.NotFoundError):
        getattr(qmodal, kind).from_id(made).len()

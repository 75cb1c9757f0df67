"""`qmodal dead`: inputs that have killed their containers and entries that nobody can open, told apart."""

from __future__ import annotations

import re
from typing import Any

import pytest

import qmodal
from qmodal.client.client import Client
from qmodal.exception import WorkerLost
from qmodal.store.entries import Submission
from qmodal.wire.ids import new_call_id, shard_of
from tests.acceptance.finding.commands import Commands
from tests.support.waiting import wait_until


def lost(shop: Commands) -> dict[str, Any]:
    """The dead letter of an input that has killed three containers."""
    with pytest.raises(WorkerLost):
        qmodal.Function.from_name("shop", "die").remote()
    (letter,) = shop.plain("dead", "list", "--failed", "--app", "shop", "--function", "die")
    return dict(letter)


def test_an_input_that_kills_its_containers_is_shown_requeued_and_dropped(shop: Commands) -> None:
    letter = lost(shop)
    assert (letter["kind"], letter["app"], letter["function"]) == ("failed", "shop", "die")
    assert shop.plain("dead", "list", "--unprocessable") == []
    shown = shop.plain("dead", "show", letter["dead"])
    assert (shown["arguments"], shown["lost"], shown["call"]) == ("", 3, letter["call"])
    said = shop.say("dead", "requeue", letter["dead"])
    new = re.fullmatch(r"in-\S+ runs again as (fc-\w+)\n", said)
    assert new is not None, said
    with pytest.raises(WorkerLost):
        qmodal.FunctionCall.from_id(new[1]).get(timeout=60)
    (again,) = shop.plain("dead", "list", "--failed")
    assert (again["call"], again["dead"] == letter["dead"]) == (new[1], False)
    assert "Aborted" in shop.refused("dead", "drop", "--all", "--failed")
    assert shop.say("dead", "drop", "--all", "--failed", "-y") == "Dropped 1 dead letters\n"
    assert shop.plain("dead", "list") == []


def test_a_lost_input_with_large_arguments_is_requeued(shop: Commands, client: Client) -> None:
    with pytest.raises(WorkerLost):
        qmodal.Function.from_name("shop", "die").remote(bytes(100_000))
    (letter,) = shop.plain("dead", "list", "--failed")
    new = shop.say("dead", "requeue", letter["dead"]).split()[-1]
    with pytest.raises(WorkerLost):
        qmodal.FunctionCall.from_id(new).get(timeout=60)
    assert client.run(client.kept_arguments.read(letter["call"], 0)) == []
    assert client.run(client.kept_arguments.read(new, 0)) != []


def test_what_nobody_can_open_is_apart_and_not_run_again(shop: Commands, client: Client) -> None:
    letter = lost(shop)
    pool = shop.plain("dead", "show", letter["dead"])["pool"]
    call = new_call_id(shard_of(pool))
    foreign = Submission(
        call=call, pool=pool, digest=b"d", envelopes=[b"unsigned"], total=1, ttl=60_000, now=1
    )
    client.run(client.calls.submit(foreign))
    (odd,) = wait_until(
        lambda: shop.plain("dead", "list", "--unprocessable"), what="it is set aside"
    )
    assert (odd["kind"], odd["call"]) == ("unprocessable", call)
    assert {each["dead"] for each in shop.plain("dead", "list")} == {odd["dead"], letter["dead"]}
    assert "its envelope cannot be opened here" in shop.say("dead", "show", odd["dead"])
    refused = shop.refused("dead", "requeue", odd["dead"])
    assert "cannot be run again: its envelope cannot be opened here" in refused
    assert shop.say("dead", "drop", odd["dead"], "-y") == "Dropped 1 dead letters\n"
    assert [each["dead"] for each in shop.plain("dead", "list")] == [letter["dead"]]


def test_ids_that_are_none_are_refused(shop: Commands) -> None:
    for command in (("show",), ("requeue",), ("drop", "-y")):
        assert "There is no dead letter 'dl-00-1-0'" in shop.refused("dead", *command, "dl-00-1-0")
    assert "There is no dead letter 'x'" in shop.refused("dead", "show", "x")
    assert "Give the ids of dead letters, or --all" in shop.refused("dead", "drop", "-y")

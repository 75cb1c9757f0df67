"""Quick verbs: the few steps have the parameters of the operation, and send the same commands."""

from __future__ import annotations

import inspect
from time import monotonic
from typing import Any

import pytest

import qmodal
from qmodal.client.quick import QuickVerb
from qmodal.store.keys import Keys
from qmodal.store.objects.dicts import _LIFE_MS, Dicts, SteadyDict
from qmodal.store.objects.queues import MOST_ITEMS, MOST_PARTITION_BYTES, Queues
from qmodal.store.objects.writers import REMEMBER_MS, Writer
from qmodal.transport.connection import pack
from qmodal.transport.prepacked import bulk, head
from qmodal.transport.script import script
from qmodal.wire.signing import Signer

DICT, QUEUE = "di-07" + "a" * 20, "qu-07" + "a" * 20
KEYS = Keys("q")
QUICK = [
    *((qmodal.Dict.from_id(DICT), name) for name in ("get", "put", "__getitem__", "__setitem__")),
    *((qmodal.Queue.from_id(QUEUE), name) for name in ("get", "put")),
]


@pytest.mark.parametrize(("of", "name"), QUICK)
def test_the_few_steps_have_the_parameters_of_the_operation(of: Any, name: str) -> None:
    verb = getattr(of, name)
    assert isinstance(verb, QuickVerb)

    def shape(function: Any) -> list[Any]:
        found = inspect.signature(function).parameters.values()
        return [(each.name, each.kind, each.default) for each in found]

    assert shape(verb._now)[2:] == shape(verb)


def test_a_packed_command_is_what_the_command_would_be() -> None:
    command = ("SET", b"key", 12, "\u00fc", b"")
    assert head(*command, more=0) == pack([command])
    assert head(*command[:3], more=2) + bulk("\u00fc") + bulk(b"") == pack([command])


def test_the_few_steps_of_a_dictionary_send_the_commands_of_the_operation() -> None:
    dicts = Dicts(KEYS)
    (asked,) = [next(dicts.get(DICT, b"k")).commands]  # type: ignore[union-attr]
    assert dicts.packed_get(DICT, b"k") == pack(asked)
    (name, sha, keys, *rest) = dicts.put_command(DICT, (b"k", b"v"))
    rest[4] = 1  # each time it looks after the others, too
    assert dicts.packed_put(DICT, b"k", b"v") == pack([(name, sha, keys, *rest)])
    dicts.know(DICT, b"k")
    (asked,) = [next(dicts.put(DICT, (b"k", b"v"))).commands]  # type: ignore[union-attr]
    assert dicts.packed_put_again(DICT, b"k", b"v") == pack(asked)


def test_the_few_steps_of_a_queue_send_its_commands() -> None:
    queues = Queues(KEYS, Signer(b"root"))
    queues._know(QUEUE, "p", 60_000)
    known = queues.lately[QUEUE, "p", 60]
    writer = known.take()
    assert isinstance(writer, Writer)
    command = queues.put_one_command(QUEUE, "p", 60_000, b"item", writer)
    assert writer.packed(b"item") == pack([command])
    known.give(writer)
    assert known.take() is writer
    assert writer.number == 2
    (exists, (pop, items, _)) = next(queues.take(QUEUE, "p", 1)).commands  # type: ignore[union-attr]
    steps = queues.take_steps(QUEUE, "p")
    assert steps.packed == pack([exists, (pop, items)])
    assert queues.takes[QUEUE, "p"] is steps


def test_a_writer_of_few_steps_is_replaced_before_the_server_forgets_what_it_wrote() -> None:
    queues = Queues(KEYS, Signer(b"root"))
    queues._know(QUEUE, "", 60_000)
    known = queues.lately[QUEUE, None, 60]
    writer = known.take()
    known.give_back(writer)
    assert known.take() is writer
    assert writer.number == 1
    writer.until = monotonic()
    known.give(writer)
    assert known.take().name != writer.name


def test_what_scripts_say_of_limits_is_what_the_operations_say() -> None:
    text = script("put_item").text
    assert f"MOST = {MOST_ITEMS}\n" in text
    assert f"MOST_BYTES = {MOST_PARTITION_BYTES}\n" in text
    assert f"'PX', {2 * REMEMBER_MS})" in text


def test_a_dictionary_counts_as_looked_after_for_some_puts_of_an_hour() -> None:
    names = (KEYS.object(DICT), KEYS.entries(DICT), KEYS.used(DICT))
    hour = 490_000
    steady = SteadyDict(names, 3600 * hour - 30, monotonic())
    commands = [
        (b"MULTI",),
        (b"ZADD", names[2], b"GT", hour, b"k"),
        (b"PEXPIRE", names[2], _LIFE_MS, b"NX"),
        (b"HSET", names[1], b"k", b"v"),
        (b"PEXPIRE", names[1], _LIFE_MS, b"NX"),
        (b"EXEC",),
    ]
    assert steady.packed(b"k", b"v") == pack(commands)
    for _ in range(30):
        assert steady.packed(b"k", b"v")
    ended = SteadyDict(names, 3600 * hour - 30, monotonic() - 31)
    # In the last second of an hour what is put belongs to the next one.
    late = SteadyDict(names, 3600 * hour - 1, monotonic())
    assert [each.packed(b"k", b"v") for each in (steady, ended, late)] == [None] * 3


@pytest.mark.parametrize(
    ("reply", "done"),
    [([1, 0, 1, 0], True), ([1, 1, 1, 1], False), ([1, 0, 1, 1], False), (None, False)],
)
def test_an_entry_is_put_if_both_keys_were_there(reply: Any, done: bool) -> None:
    assert SteadyDict.has_put([b"OK", *[b"QUEUED"] * 4, reply]) is done

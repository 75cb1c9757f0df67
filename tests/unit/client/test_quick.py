"""Quick verbs: the few steps have the parameters of the operation, and send the same commands."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import qmodal
from qmodal.client.quick import QuickVerb
from qmodal.store.keys import Keys
from qmodal.store.objects.dicts import Dicts
from qmodal.store.objects.queues import Queues
from qmodal.store.objects.writers import Writer
from qmodal.transport.connection import pack
from qmodal.transport.prepacked import bulk, head

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
    for packed in (dicts.packed_put, dicts.packed_put_again):
        (asked,) = [next(dicts.put(DICT, (b"k", b"v"))).commands]  # type: ignore[union-attr]
        assert packed(DICT, b"k", b"v") == pack(asked)
        dicts.know(DICT, b"k")


def test_the_few_steps_of_a_queue_send_its_commands() -> None:
    queues = Queues(KEYS)
    queues._know(QUEUE, "p", 60_000)
    known = queues.known(QUEUE, "p", 60_000)
    assert known is not None
    writer = known.take()
    assert isinstance(writer, Writer)
    command = queues.put_one_command(QUEUE, "p", 60_000, b"item", writer)
    assert writer.packed(b"item") == pack([command])
    known.give(writer)
    assert known.take() is writer
    assert writer.number == 2
    (exists, (pop, items, _)) = next(queues.take(QUEUE, "p", 1)).commands  # type: ignore[union-attr]
    assert queues.packed_take(QUEUE, "p") == pack([exists, (pop, items)])

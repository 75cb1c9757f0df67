"""As `cases`, of the scripts for dictionaries and queues; whatever they make has a lifetime."""

from __future__ import annotations

from collections.abc import Callable

from qmodal.store.objects.names import EPHEMERAL_MS, ObjectRecord
from qmodal.store.objects.queues import PutItems
from qmodal.store.objects.writers import Writer
from qmodal.transport.operation import Command
from tests.model.model import command_of
from tests.support.store.bench import Bench


def ephemeral(bench: Bench, kind: str = "dict") -> str:
    """The id of an ephemeral object."""
    names = bench.client.object_names
    return bench.client.run(
        names.create_ephemeral("dict" if kind == "dict" else "queue", "main")
    ).object_id


def put_entries(bench: Bench) -> Command:
    return bench.client.dicts.put_command(ephemeral(bench), [b"a", b"1", b"b", b"2"])


def put_entry(bench: Bench) -> Command:
    return bench.client.dicts.put_command(ephemeral(bench), [b"a", b"1"])


def with_entry(bench: Bench) -> str:
    """The id of a dictionary with an entry."""
    made = ephemeral(bench)
    bench.client.run(bench.client.dicts.put(made, [b"a", b"1"]))
    return made


def put_absent(bench: Bench) -> Command:
    return command_of(bench.client.dicts.put_absent(ephemeral(bench), b"a", b"1"))


def take_entry(bench: Bench) -> Command:
    return command_of(bench.client.dicts.remove(with_entry(bench), b"a", b"1"))


def with_old_entry(bench: Bench) -> str:
    """The id of a dictionary with an entry that was used a day ago."""
    made = with_entry(bench)
    bench.ask(b"ZINCRBY", bench.client.keys.used(made), -24, b"a")
    return made


def touch_entry(bench: Bench) -> Command:
    return bench.client.dicts.touch_command(with_old_entry(bench), b"a")


def read_entries(bench: Bench) -> Command:
    return bench.client.dicts.read_command(with_old_entry(bench), [b"a"])


def count_entries(bench: Bench) -> Command:
    made = with_entry(bench)
    bench.ask(b"ZADD", bench.client.keys.used(made), 1, b"a")
    return bench.client.dicts.count_command(made)


def put_items(bench: Bench) -> Command:
    put = PutItems("p", [b"1", b"2"], 60_000)
    return bench.client.queues.put_command(ephemeral(bench, "queue"), put, Writer())


def kept_queue(bench: Bench) -> str:
    """The id of a queue that is not ephemeral, and into which something was put; here it ends by itself, too."""
    made = ephemeral(bench, "queue")
    bench.ask(b"HSET", bench.client.keys.object(made), b"life", 0)
    bench.client.run(bench.client.queues.put(made, PutItems("p", [b"1"], 60_000)))
    return made


def put_item(bench: Bench) -> Command:
    return bench.client.queues.put_one_command(kept_queue(bench), "p", 60_000, b"2", Writer())


def with_items(bench: Bench) -> str:
    """The id of a queue with two items."""
    made = ephemeral(bench, "queue")
    bench.client.run(bench.client.queues.put(made, PutItems("p", [b"1", b"2"], 60_000)))
    return made


def peek_items(bench: Bench) -> Command:
    return bench.client.queues.peek_command(with_items(bench), "p", b"1", 10)


def forget_partitions(bench: Bench) -> Command:
    made = with_items(bench)
    bench.client.run(bench.client.queues.take(made, "p", 2))
    return bench.client.queues.forget_command(made, ["p"])


def make_object(bench: Bench) -> Command:
    record = ObjectRecord("dict", "di-00" + "a" * 20, "main", None, 1)
    signed = record.seal(bench.client.signer)
    return bench.client.object_names.make_command(
        record.object_id, signed, ttl=EPHEMERAL_MS, life=EPHEMERAL_MS
    )


def name_object(bench: Bench) -> Command:
    """One that takes a name away, so that nothing stays."""
    names = bench.client.object_names
    bench.ask(*names.name_command("dict", "main/n", b"", b"record"))
    bench.ask(b"PEXPIRE", bench.client.keys.names("dict"), 60_000)
    return names.name_command("dict", "main/n", b"record", b"")


OBJECT_CASES: list[Callable[[Bench], Command]] = [
    *(put_entry, put_entries, put_absent, take_entry, touch_entry, read_entries, count_entries),
    *(put_item, put_items, peek_items, forget_partitions, make_object, name_object),
]

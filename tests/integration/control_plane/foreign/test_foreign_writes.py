"""What scripts and readers do about foreign entries: they get past them, and lose nothing of ours."""

from __future__ import annotations

import msgpack
import pytest

from qmodal.client.client import Client
from qmodal.functions.generator import SKIP, ItemReader
from qmodal.functions.results import OutputReader
from qmodal.output.screen import Screen, Style
from qmodal.spec.documents import PoolSpec
from qmodal.store.history.logs import LogChunk
from qmodal.wire.ids import new_call_id, shard_of
from tests.support.store.bench import Bench, target_of

APP = "ap-foreign"
FIELDS = {
    "other names": ("a", "b"),
    "no number": ("i", "x", "o", "signed"),
    "a huge number": ("i", "9" * 5000, "o", "signed"),
    "negative": ("i", "-7", "x", "note"),
    "too many": ("i", "0+5000", "o", "signed"),
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_a_reader_of_outputs_gets_past_a_foreign_entry(
    bench: Bench, fields: tuple[str, ...]
) -> None:
    """It was left out while the cursor stayed: every read found it again, at once."""
    call = bench.submit()
    reader = OutputReader(bench.client, call)
    entry = bench.ask(b"XADD", bench.client.keys.outputs(call), b"*", *fields)
    assert bench.client.run(reader.read(1)) == []
    assert reader.cursor == entry


def test_a_reader_of_items_takes_a_foreign_entry_away(bench: Bench) -> None:
    """It takes up room that a generator waits for."""
    reader = ItemReader(bench.client, target_of(PoolSpec(app_id="ap", function="f")))
    outputs = bench.client.keys.outputs(reader._reader.call)
    bench.ask(b"XADD", outputs, b"*", b"a", b"b")
    (foreign,) = bench.client.run(bench.client.calls.read(reader._reader.call, b"0", block=0))
    assert bench.client.run(reader.value(foreign)) is SKIP
    bench.ask(b"XADD", outputs, b"*", b"c", b"d")
    assert len(bench.client.run(reader.read())) == 1
    assert bench.ask(b"XLEN", outputs) == 1
    bench.ask(b"DEL", outputs)


def test_a_log_shows_what_comes_behind_entries_that_it_does_not_understand(
    client: Client, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    key = client.keys.logs(APP)
    bench.ask(b"XADD", key, b"*", b"a", b"b")
    bench.ask(b"XADD", key, b"*", b"c", b"ta-1", b"s", b"z", b"t", b"of a newer release\n")
    bench.ask(b"XADD", key, b"*", b"c", b"\xff", b"s", b"o", b"t", b"no text \xff\n", b"p", b"\xff")
    client.run(client.logs.append(APP, [LogChunk("ta-1", "stdout", b"ours\n")]))
    bench.ask(b"XADD", key, b"99999999999999999-0", b"c", b"ta-1", b"s", b"o", b"t", b"late\n")
    chunks = client.run(client.logs.follow(APP, "0", block=1))
    screen = Screen(Style(timestamps=True))
    for chunk in chunks:
        screen.write(chunk)
    shown = capsys.readouterr().out
    assert [line.split(" ", 2)[2] for line in shown.splitlines()] == [
        "of a newer release",
        "no text \ufffd",
        "ours",
        "late",
    ]
    assert len(chunks) == 5, "each of them has a place to go on behind"


def test_a_log_of_nothing_but_foreign_entries_is_read_once(client: Client, bench: Bench) -> None:
    bench.ask(b"XADD", client.keys.logs(APP), b"*", b"a", b"b")
    bench.ask(b"EXPIRE", client.keys.logs(APP), 60)
    (chunk,) = client.run(client.logs.follow(APP, "0", block=1))
    assert chunk.text == b""
    assert client.run(client.logs.follow(APP, chunk.entry, block=1)) == []


def test_cancel_ends_what_is_ours_beside_foreign_entries_of_the_same_call(bench: Bench) -> None:
    """It stopped at the first of them, when the inputs before that were gone already."""
    inputs, call = bench.client.keys.inputs(bench.pool), bench.submit(2)
    foreign = bench.ask(b"XADD", inputs, b"*", b"e", b"x", b"c", call)
    bench.submit(1, call=call, first=2, total=None, envelopes=[b"e"], digest=b"digest")
    bench.client.run(bench.client.calls.cancel(call))
    assert [entry for entry, _ in bench.ask(b"XRANGE", inputs, b"-", b"+")] == [foreign]
    assert bench.inflight() == 0


def test_foreign_members_do_not_keep_retries_from_coming_back(bench: Bench) -> None:
    """One was taken away with each run, which then stopped: what came with it waited a second each."""
    delayed = bench.client.keys.delayed(bench.pool)
    bench.submit()
    (claimed,) = bench.claim()
    bench.client.run(bench.client.pools.retry(bench.pool, claimed, delay=3600))
    (ours,) = bench.ask(b"ZRANGE", delayed, 0, -1)
    odd = [b"", b"\xc1", msgpack.packb([1] * 12), msgpack.packb({"c": 1}), msgpack.packb(["e"])]
    for member in (*odd, ours):
        bench.ask(b"ZADD", delayed, 1, member)
    bench.ask(b"ZADD", delayed, b"+inf", b"never")
    count, seconds = bench.client.run(bench.client.pools.promote(bench.pool))
    assert count == len(odd) + 1
    assert seconds == 86_400
    assert len(bench.claim()) == 1
    assert len(bench.dead()) == len(odd)
    assert bench.client.run(bench.client.pools.purge(bench.pool, reason="over")) == 2


def test_an_odd_record_of_a_call_costs_no_other_call_its_outcome(bench: Bench) -> None:
    """Their entries are gone when the record is looked at: a script that stopped there lost them all."""
    spoiled, other = bench.submit(), bench.submit()
    claimed = bench.claim(count=2)
    bench.ask(b"SET", bench.client.keys.call(spoiled), b"no record", b"EX", 60)
    assert bench.settle(*claimed) == [0, 1, 1]
    assert bench.outputs(other) == [(0, b"o", b"done")]
    assert bench.record(other).is_finished


@pytest.mark.parametrize("value", [b"", b"x", b"1.5", b"9" * 30])
def test_a_counter_that_is_none_begins_anew(bench: Bench, value: bytes) -> None:
    """Nothing was accepted or settled any more in a pool with an odd counter."""
    pool = bench.client.keys.pool(bench.pool)
    call = bench.submit()
    bench.ask(b"HSET", pool, b"inflight", value, b"submitted", value)
    late = bench.submit()
    claimed = bench.claim(count=2)
    bench.settle(*claimed)
    assert bench.outputs(call)
    assert bench.outputs(late)
    (seen,) = bench.client.run(bench.client.observing.observe([bench.pool]))
    assert seen is not None
    assert seen.inflight == 0


def test_an_input_of_a_spoiled_call_is_given_back_or_ended_and_never_lost(bench: Bench) -> None:
    call = bench.submit()
    bench.claim()
    bench.ask(b"SET", bench.client.keys.moved(call), b"no set", b"EX", 60)
    back = bench.client.run(
        bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=())
    )
    assert back == (1, 0)
    assert [one.call for one in bench.claim("ta-a-2")] == [call]


def test_a_call_of_another_type_does_not_stop_what_takes_its_input_back(bench: Bench) -> None:
    """Its entry is gone by then, and so would be those behind it."""
    spoiled, other = bench.submit(), bench.submit()
    bench.claim(count=2)
    bench.ask(b"SET", bench.client.keys.call(spoiled), b"no record", b"EX", 60)
    reclaim = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=())
    assert sum(bench.client.run(reclaim)) == 2
    assert [one.call for one in bench.claim("ta-a-2", 2)] == [other]


@pytest.mark.parametrize("value", [b"nan", b"inf", b"-1", b"x", b"1e300"])
def test_a_time_that_is_none_counts_as_not_learned(bench: Bench, value: bytes) -> None:
    bench.ask(b"HSET", bench.client.keys.pool(bench.pool), b"service_time", value)
    assert bench.client.run(bench.client.pools.service_time(bench.pool)) is None


def test_a_child_that_is_none_is_left_out_of_a_call_graph(bench: Bench) -> None:
    call, key = bench.submit(), ""
    key = bench.client.keys.children(call)
    child = new_call_id(0)
    for fields in (("x", "y"), ("-1", child), ("0", b"\xff"), ("0", child, "p"), ("0", child)):
        bench.ask(b"XADD", key, b"*", *fields)
    bench.ask(b"EXPIRE", key, 60)
    assert [each.call for each in bench.client.run(bench.client.children.of(call))] == [child]


@pytest.mark.parametrize("name", ["inputs", "again", "delayed", "active"])
def test_a_key_of_a_pool_that_has_another_type_is_removed_and_the_pool_takes_inputs_again(
    bench: Bench, name: str
) -> None:
    keys = bench.client.keys
    spoiled = {
        "inputs": keys.inputs(bench.pool),
        "again": keys.again(bench.pool),
        "delayed": keys.delayed(bench.pool),
        "active": keys.active(shard_of(bench.pool)),
    }[name]
    lost = bench.submit(1)
    bench.ask("DEL", spoiled)
    bench.ask("SET", spoiled, "no such type")
    observing = bench.client.observing
    if name == "active":
        assert bench.client.run(observing.active()) == []
    else:
        bench.client.run(observing.observe([bench.pool]))
    (seen,) = bench.client.run(observing.observe([bench.pool]))
    assert seen is not None
    bench.submit(1)
    assert bench.claim("ta-1", 10)
    assert bench.client.run(observing.active()) == [bench.pool]
    bench.ask("DEL", bench.client.keys.call(lost))

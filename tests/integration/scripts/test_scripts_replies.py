"""Submitting several calls at once, and the reply streams of callers that wait together."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.store.entries import Submission
from qmodal.transport.sharing.pending_exchange import MOST_MERGED
from qmodal.transport.sharing.pending_reply import PendingReply
from tests.support.store.bench import Bench
from tests.support.store.cases import cancel_command

REPLY_TO = "0123456789abcdef"
LARGEST = 16 * 1024
# More than a script can hand to one command, with four fields each.
MANY = 2100


class NoSource:
    """What delivers nothing."""

    reply_to = REPLY_TO

    def remove(self, pending: PendingReply) -> None:
        """Nobody waits."""

    def reset(self) -> None:
        """Nothing is read."""


def awaited(bench: Bench, count: int = 1, **changes: Any) -> Submission:
    submission = bench.submission(count, **changes)
    stream = stream_of(bench, submission.call)
    submission.pending_reply = PendingReply(NoSource(), REPLY_TO, stream, submission.call)
    return submission


def stream_of(bench: Bench, call: str) -> str:
    return bench.client.keys.replies(call, REPLY_TO)


def submit_each(bench: Bench, *submissions: Submission) -> Any:
    parts = [part for each in submissions if (part := bench.client.calls.mergeable(each))]
    (kind,) = {part.kind for part in parts}
    return bench.ask(*parts[0].merge(kind, [part.values for part in parts]))


def opened(bench: Bench, call: str) -> str:
    stream = stream_of(bench, call)
    bench.ask(b"XADD", stream, b"*", b"begin", b"")
    bench.ask(b"PEXPIRE", stream, 60_000)
    return stream


def replied(bench: Bench, stream: str) -> list[list[bytes]]:
    found = bench.ask(b"XRANGE", stream, b"-", b"+")
    return [fields for _, fields in found if fields[0] != b"begin"]


def test_calls_that_go_out_together_are_as_if_each_had_come_alone(bench: Bench) -> None:
    together = [awaited(bench) for _ in range(3)]
    alone = awaited(bench)
    assert submit_each(bench, *together) == [b"OK"] * 3
    bench.client.run(bench.client.calls.submit(alone))
    records = [
        bench.ask(b"HGETALL", bench.client.keys.call(each.call)) for each in (*together, alone)
    ]
    fields = [dict(zip(each[::2], each[1::2], strict=True)) for each in records]
    for each in fields:
        del each[b"from"]
    assert fields == [fields[0]] * 4
    assert [claimed.call for claimed in bench.claim(count=9)] == [
        each.call for each in (*together, alone)
    ]
    assert bench.inflight() == 4


def test_a_call_that_is_submitted_again_is_not_submitted_twice(bench: Bench) -> None:
    first, second = awaited(bench), awaited(bench)
    assert submit_each(bench, first) == [b"OK"]
    assert submit_each(bench, first, second) == [b"OK", b"OK"]
    assert submit_each(bench, first, second) == [b"OK", b"OK"]
    assert bench.inflight() == 2
    other = awaited(bench, call=first.call, digest=b"another")
    assert submit_each(bench, other) == [b"TAKEN"]


def test_nothing_is_submitted_to_a_pool_that_is_not_known(bench: Bench) -> None:
    bench.ask(b"UNLINK", bench.client.keys.pool(bench.pool))
    one = awaited(bench)
    assert submit_each(bench, one) == b"POOL"
    assert not bench.ask(b"EXISTS", bench.client.keys.call(one.call))
    bench.open()


@pytest.mark.parametrize(
    "changes", [{"parent": "in-00x-0"}, {"blobs": [(0, b"x")]}, {"total": None}, {"total": 2}]
)
def test_what_is_not_one_small_input_has_a_script_of_its_own(
    bench: Bench, changes: dict[str, Any]
) -> None:
    assert bench.client.calls.mergeable(awaited(bench, **changes)) is None


def test_outcomes_of_one_settle_reach_their_reply_stream_as_one_entry(bench: Bench) -> None:
    calls = [awaited(bench) for _ in range(3)]
    submit_each(bench, *calls)
    stream = opened(bench, calls[0].call)
    bench.settle(*bench.claim(count=3), outcome=b"done")
    (fields,) = replied(bench, stream)
    assert fields == [part for each in calls for part in (each.call.encode(), b"0", b"o", b"done")]
    assert all(bench.outputs(each.call) == [(0, b"o", b"done")] for each in calls)


def test_more_outcomes_than_one_entry_takes_reach_their_reply_stream_as_several(
    bench: Bench,
) -> None:
    calls = [awaited(bench) for _ in range(MANY)]
    for at in range(0, MANY, MOST_MERGED):
        submit_each(bench, *calls[at : at + MOST_MERGED])
    stream = opened(bench, calls[0].call)
    settle = bench.settle_command(*bench.claim(count=MANY), outcome=b"done")
    assert bench.ask(*settle) == [0, *[1] * MANY]
    entries = replied(bench, stream)
    assert len(entries) > 1
    found = [part for fields in entries for part in fields]
    assert found == [part for each in calls for part in (each.call.encode(), b"0", b"o", b"done")]


def test_a_reply_stream_that_is_not_there_is_not_made(bench: Bench) -> None:
    call = awaited(bench)
    submit_each(bench, call)
    bench.settle(*bench.claim())
    assert not bench.ask(b"EXISTS", stream_of(bench, call.call))
    assert bench.outputs(call.call) == [(0, b"o", b"done")]


def test_a_large_outcome_is_only_announced(bench: Bench) -> None:
    call = awaited(bench)
    submit_each(bench, call)
    stream = opened(bench, call.call)
    bench.settle(*bench.claim(), outcome=b"x" * (LARGEST + 1))
    assert replied(bench, stream) == [[call.call.encode(), b"0", b"l", b""]]


def test_a_value_of_another_kind_in_its_place_stops_nothing(bench: Bench) -> None:
    call = awaited(bench)
    submit_each(bench, call)
    bench.ask(b"SET", stream_of(bench, call.call), b"foreign", b"EX", 60)
    bench.settle(*bench.claim())
    assert bench.inflight() == 0


def test_whatever_ends_an_input_is_in_the_reply_stream(bench: Bench) -> None:
    lost, cancelled = awaited(bench), awaited(bench)
    submit_each(bench, lost)
    stream = opened(bench, lost.call)
    bench.claim()
    pools = bench.client.pools
    bench.client.run(pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=["*"], budget=1))
    submit_each(bench, cancelled)
    bench.ask(*cancel_command(bench, cancelled.call))
    assert replied(bench, stream) == [
        [lost.call.encode(), b"0", b"x", b"gone"],
        [cancelled.call.encode(), b"-1", b"x", b"cancelled"],
    ]

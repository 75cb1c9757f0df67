"""Submit, alone: what it accepts, what it refuses, and how long what it wrote lives."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.exception import InternalFailure
from qmodal.store.calls import UnknownPoolError
from qmodal.transport.connection import Address, Connection
from qmodal.wire.ids import pool_id
from tests.support.store.bench import Bench, state_of


def test_a_repeated_submit_is_accepted_and_changes_nothing(bench: Bench) -> None:
    submission = bench.submission(3, blobs=[(0, b"big")])
    bench.client.run(bench.client.calls.submit(submission))
    before = state_of(bench.line, bench.client.settings.prefix)
    bench.client.run(bench.client.calls.submit(submission))
    assert state_of(bench.line, bench.client.settings.prefix) == before
    assert bench.inflight() == 3


def hints(bench: Bench, line: Connection) -> int:
    """How many hints at the pool there were since this was asked last."""
    bench.ask(b"PUBLISH", bench.client.keys.wake, b"that is all")
    texts = list(iter(lambda: line.read()[2], b"that is all"))
    return texts.count(b"+" + bench.pool.encode())


def test_only_a_lone_input_that_finds_a_container_is_no_news(bench: Bench) -> None:
    def submitted(count: int) -> int:
        bench.ask(b"DEL", bench.client.keys.wake_marker(bench.pool))
        bench.submit(count)
        return hints(bench, line)

    def served(is_served: bool) -> None:
        bench.client.run(bench.client.observing.serve(bench.pool, is_served=is_served))

    line = Connection(Address(bench.client.settings.redis_url or ""))
    line.exchange([(b"SUBSCRIBE", bench.client.keys.wake)])
    served(True)
    assert submitted(1) == 1  # the pool was not active: whatever was said before is over
    assert submitted(1) == 1  # not alone
    bench.settle(*bench.claim(count=2))
    assert submitted(1) == 0
    bench.settle(*bench.claim())
    assert submitted(2) == 1
    bench.settle(*bench.claim(count=2))
    served(False)
    assert submitted(1) == 1
    line.close()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"digest": b"other"}, "another call has this id"),
        ({"first": 5, "total": 6}, "an earlier chunk"),
        ({"pool": pool_id("ap-x", "never opened", b"")}, None),
    ],
)
def test_what_does_not_fit_is_refused_and_writes_nothing(
    bench: Bench, changes: dict[str, Any], error: str | None
) -> None:
    call = bench.submit(1, total=None)
    before = state_of(bench.line, bench.client.settings.prefix)
    new = {"call": call, "first": 1} if error else {}
    wrong = bench.submission(1, **(new | changes))
    expected = InternalFailure if error else UnknownPoolError
    with pytest.raises(expected, match=error):
        bench.client.run(bench.client.calls.submit(wrong))
    assert state_of(bench.line, bench.client.settings.prefix) == before


def test_a_submit_whose_blob_is_missing_is_refused(bench: Bench) -> None:
    *_, submit = bench.client.calls.submit_commands(bench.submission(1, blobs=[(0, b"big")]))
    assert bench.ask(*submit) == b"BLOB"
    assert bench.inflight() == 0


def test_chunks_of_a_call_travel_in_order(bench: Bench) -> None:
    call = bench.submit(2, total=None)
    chunk = bench.submission(2, call=call, first=2, total=None)
    end = bench.submission(0, call=call, first=4, total=4)
    for submission in (chunk, chunk, end, end):
        bench.client.run(bench.client.calls.submit(submission))
    assert bench.record(call).submitted == 4
    assert bench.record(call).total == 4
    indexes = [int(one.fields[5]) for one in bench.claim(count=10)]
    assert indexes == [0, 1, 2, 3]


def test_a_call_without_inputs_has_a_lifetime_and_can_be_cancelled(bench: Bench) -> None:
    empty = bench.submit(0)
    assert bench.record(empty).is_finished
    assert bench.left(bench.client.keys.call(empty)) > 0
    waiting = bench.submit(0, total=None)
    bench.client.run(bench.client.calls.cancel(waiting))
    assert bench.record(waiting).state == "cancelled"


def test_a_blob_stays_until_its_input_ends(bench: Bench) -> None:
    submission = bench.submission(2, blobs=[(0, b"big"), (1, b"big too")])
    blob = bench.client.keys.blob(submission.call, 0)
    bench.client.run(bench.client.calls.submit(submission))
    assert bench.left(blob) == -1
    first, _ = bench.claim(count=2)
    bench.settle(first, has_blob=True)
    assert bench.left(blob) == -2
    bench.client.run(bench.client.calls.submit(submission))  # its reply was lost
    assert bench.left(blob) > 0, "a blob that came again after its input ended stays for ever"
    assert bench.left(bench.client.keys.blob(submission.call, 1)) == -1


def test_keys_of_a_call_have_a_lifetime_exactly_while_nothing_is_in_flight(bench: Bench) -> None:
    call = bench.submit(1, total=None)
    keys = (bench.client.keys.call(call), bench.client.keys.outputs(call))
    bench.settle(*bench.claim())
    assert all(0 < bench.left(key) <= 600_000 for key in keys)
    bench.submit(1, call=call, first=1)
    assert [bench.left(key) for key in keys] == [-1, -1]
    bench.settle(*bench.claim())
    assert all(bench.left(key) > 0 for key in keys)

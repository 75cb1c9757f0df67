"""A container's tally: what it counts, what its worker reads, and what damage does to it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from qmodal.store.entries import Claimed
from qmodal.store.history.statistics import BOUNDS, BUCKETS, bucket_of, sum_of
from qmodal.wire.envelope import Envelope, Head
from qmodal.wire.outcome import Result
from qmodal.wire.signing import Signer
from qmodal_workers.container.settle.coalesce import Done, in_runs, sealed
from qmodal_workers.ipc.shared_record import SharedRecord
from qmodal_workers.ipc.tally import Tally

CALL = "fc-00" + "a" * 20
FIELDS = (b"e", b"m" * 64, b"c", CALL.encode(), b"i", b"0")
SIGNER = Signer(b"root")
VALUE: Result = ("value", "m", b"\x01")
ERROR: Result = ("error", "x", b"")


@pytest.fixture
def record() -> Iterator[SharedRecord]:
    """A container's record, and its worker's."""
    made = SharedRecord.create()
    yield made
    made.close()


def histogram(found: dict[str, int], name: str) -> list[int]:
    return [found[bucket_of(name, number)] for number in range(BUCKETS)]


def seal(tally: Tally, *endings: tuple[Result, float]) -> None:
    """Seal inputs of one call that have ended so, each after so many seconds."""
    now = time.monotonic_ns()
    head = Head("pool", CALL, "", time.time_ns() // 1_000_000 - 60_000, None, "3.11")
    done = [
        Done(
            Claimed(1, f"1-{index}", FIELDS),
            Envelope(head, index, 1, "m", b"", None),
            result,
            now,
            took,
        )
        for index, (result, took) in enumerate(endings)
    ]
    for run in in_runs(done):
        sealed(run, "ta-1", SIGNER, tally)


@pytest.mark.parametrize(
    ("micros", "bucket"),
    [(0, 0), (BOUNDS[0], 0), (BOUNDS[0] + 1, 1), (BOUNDS[-1], BUCKETS - 2), (1 << 40, BUCKETS - 1)],
)
def test_a_time_is_in_the_first_bucket_that_is_not_below_it(micros: int, bucket: int) -> None:
    tally = Tally()
    tally.ended("value", 0, micros)
    found = tally.read(0, 0)
    assert histogram(found, "run").index(1) == histogram(found, "total").index(1) == bucket
    assert found[sum_of("run")] == found[sum_of("total")] == micros


def test_outcomes_are_counted_by_kind_and_values_are_the_rest() -> None:
    tally = Tally()
    tally.ended("value", 10, 20, 5)
    for kind in ("error", "timeout", "cancelled", "unstored"):
        tally.ended(kind, 10, 20)
    tally.retried(20, 3)
    tally.add("lost", 2)
    found = tally.read(0, 0)
    kinds = ("value", "error", "timeout", "cancelled", "unstored", "lost", "retries")
    assert [found[kind] for kind in kinds] == [5, 1, 1, 1, 1, 2, 3]
    assert sum(histogram(found, "total")) == sum(histogram(found, "wait")) == 9
    assert sum(histogram(found, "run")) == 12  # attempts
    assert found[sum_of("total")] == found[sum_of("wait")] + found[sum_of("run")]


def test_a_wait_before_its_submit_by_another_clock_is_none() -> None:
    tally = Tally()
    tally.ended("value", -5_000_000, 7)
    assert histogram(tally.read(0, 0), "wait")[0] == 1
    assert tally.read(0, 0)[sum_of("wait")] == 0


def test_a_worker_reads_what_its_container_has_counted(record: SharedRecord) -> None:
    record.tally.ended("error", 1, 2_000_000)
    found = record.tally.read(0, 0)
    assert (found["error"], found["value"], found["busy"]) == (1, 0, 2_000_000)


def test_the_input_that_runs_counts_as_busy_time_already() -> None:
    tally = Tally()
    tally.ended("value", 0, 100)
    assert tally.read(0, 5_000)["busy"] == 105


def test_several_inputs_at_once_are_busy_together() -> None:
    tally = Tally()
    tally.begin_busy(1_000_000)
    assert tally.read(3_000_000, 0)["busy"] == 2_000
    tally.ended("value", 0, 2_000, 10)
    tally.end_busy(5_000_000)
    assert tally.read(9_000_000, 0)["busy"] == 4_000


def test_words_that_user_code_has_filled_raise_nothing(record: SharedRecord) -> None:
    words = record.tally._words
    for at in range(len(words)):
        words[at] = 2**64 - 1
    record.tally.ended("error", 1, 1)
    record.tally.retried(1)
    record.tally.add("lost", 1)
    record.tally.end_busy(0)
    assert record.tally.read(0, 0)["value"] >= 0


def test_inputs_that_share_an_outcome_are_counted_one_by_one_unless_all_were_short() -> None:
    tally = Tally()
    seal(tally, (VALUE, 0.0001), (VALUE, 0.0003), (VALUE, 0.0002))
    found = tally.read(0, 0)
    assert (found["value"], found[sum_of("run")]) == (3, 600)
    seal(tally, (VALUE, 0.0001), (VALUE, 2.0), (ERROR, 0.02))
    found = tally.read(0, 0)
    assert (found["value"], found["error"]) == (5, 1)
    assert [at for at, count in enumerate(histogram(found, "run")) if count] == [0, 3, 7]
    assert sum(histogram(found, "wait")[BOUNDS.index(60_000_000) :]) == 6

"""Notes of failed inputs: capped by number and age, found by function, and never in the way of a container."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace

import pytest

from qmodal.client.client import Client
from qmodal.store.entries import Claimed
from qmodal.store.results import failures
from qmodal.store.results.failures import KEEP_MS, MOST_ENVELOPE, MOST_TRACE, Failure
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import new_app_id, new_call_id
from qmodal.wire.outcome import text_outcome, told
from qmodal.wire.remote_error import dump_exception
from qmodal_workers.container.settle import failure_notes
from qmodal_workers.container.settle.failure_notes import FailureNotes
from tests.support.attempts import attempt_of
from tests.support.store.bench import Bench

CLAIMED = Claimed(1, "1-0", (b"e", b"signed", b"c", b"fc-00x", b"i", b"0"))


@pytest.fixture
def app() -> str:
    return new_app_id()


def failure(app: str, **given: object) -> Failure:
    made = Failure(
        app=app,
        function="f",
        pool=secrets.token_hex(16),
        call=new_call_id(1),
        index=0,
        kind="error",
        reason="ValueError: no",
        envelope=b"signed",
    )
    return replace(made, **given)  # type: ignore[arg-type]


def test_a_note_comes_back_as_it_was_with_its_time(client: Client, app: str) -> None:
    before = time.time_ns() // 1_000_000
    noted = failure(app, method="m", trace="Traceback", took=5, retries=1, lost=2, index=7)
    client.run(client.failures.note(noted))
    (found,) = client.run(client.failures.recent(app, "f", count=1000))
    assert before - 1000 <= found.at <= time.time_ns() // 1_000_000 + 1000
    assert replace(found, at=0, entry="") == noted
    assert (app, "f") in client.run(client.failures.functions())
    assert client.run(client.failures.recent(app, "g", count=1000)) == []
    assert client.run(client.failures.recent(app, "f", count=9, since=found.at + 1)) == []


def test_notes_are_capped_and_have_a_lifetime(
    client: Client, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "MOST_NOTED", 100)
    for index in range(500):
        client.run(client.failures.note(failure(app, index=index)))
    key = client.keys.failed(app, "f")
    assert client.run(ask_one(b"XLEN", key)) <= 200
    assert 0 < client.run(ask_one(b"PTTL", key)) <= KEEP_MS
    assert 0 < client.run(ask_one(b"PTTL", client.keys.failing)) <= KEEP_MS
    newest = client.run(client.failures.recent(app, "f", count=3))
    assert [each.index for each in newest] == [499, 498, 497]
    behind = client.run(client.failures.recent(app, "f", count=2, before=newest[-1].entry))
    assert [each.index for each in behind] == [496, 495]


def test_what_is_older_than_a_week_goes_with_the_next_note(client: Client, app: str) -> None:
    key = client.keys.failed(app, "f")
    old = time.time_ns() // 1_000_000 - KEEP_MS - 60_000
    for number in range(200):
        client.run(ask_one(b"XADD", key, f"{old}-{number}", b"n", b"x" * 100, b"e", b""))
    client.run(ask_one(b"ZADD", client.keys.failing, old, f"{app}/gone"))
    client.run(client.failures.note(failure(app)))
    assert client.run(ask_one(b"XLEN", key)) < 200
    assert (app, "gone") not in client.run(client.failures.functions())


def test_large_tracebacks_are_cut_and_large_envelopes_left_out(client: Client, app: str) -> None:
    large = failure(app, trace="x" * MOST_TRACE + "end", envelope=b"e" * (MOST_ENVELOPE + 1))
    client.run(client.failures.note(large))
    (found,) = client.run(client.failures.recent(app, "f", count=1000))
    assert (len(found.trace), found.trace[-3:], found.envelope) == (MOST_TRACE, "end", b"")


@pytest.mark.parametrize("odd", [b"", b"\xc1", b"\x80", b"\x81\xa3app\x05"])
def test_a_foreign_entry_among_the_notes_is_left_out(client: Client, app: str, odd: bytes) -> None:
    client.run(client.failures.note(failure(app)))
    client.run(ask_one(b"XADD", client.keys.failed(app, "f"), b"*", b"n", odd))
    assert len(client.run(client.failures.recent(app, "f", count=1))) == 1


def test_a_container_notes_no_more_than_its_share(
    client: Client, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_notes, "NOTES_PER_SECOND", 0.0)
    notes = FailureNotes(client, "00" * 16, app, "f", "ta-a-1")
    one = attempt_of(CLAIMED)
    for index in range(200):
        notes.note(one.claimed, one.envelope, index, text_outcome("timeout", "too long"))
    found = client.run(client.failures.recent(app, "f", count=1000))
    assert len(found) == failure_notes.MOST_AT_ONCE
    assert {(each.kind, each.reason) for each in found} == {("timeout", "too long")}


def test_a_note_says_whether_people_can_run_the_input_again(
    client: Client, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_notes, "NOTES_PER_SECOND", 0.0)
    monkeypatch.setattr(failure_notes, "MOST_AT_ONCE", 1.0)
    one, outcome = attempt_of(CLAIMED), text_outcome("error", "no")
    method = one.envelope.head.method
    for unrepeatable in (frozenset[str](), frozenset({method})):
        notes = FailureNotes(client, "00" * 16, app, "f", "ta-a-1", unrepeatable, _left=1.0)
        assert notes.note(one.claimed, one.envelope, 0, outcome) is not bool(unrepeatable)
        assert not notes.note(one.claimed, one.envelope, 0, outcome), "it was not noted"


def test_an_input_that_was_cancelled_has_not_failed(client: Client, app: str) -> None:
    one = attempt_of(CLAIMED)
    notes = FailureNotes(client, "00" * 16, app, "f", "ta-a-1")
    notes.note(one.claimed, one.envelope, 0, text_outcome("cancelled", "over"))
    assert client.run(client.failures.recent(app, "f", count=1000)) == []


@pytest.mark.parametrize("plain_only", [False, True])
def test_an_error_tells_its_line_and_its_traceback_without_being_unpickled(
    plain_only: bool,
) -> None:
    try:
        raise ValueError("first line\nsecond line")
    except ValueError as error:
        packed = dump_exception(error, origin="ta-a-1", plain_only=plain_only)
    reason, trace = told("error", packed)
    assert reason == "ValueError: first line"
    assert trace.startswith("Traceback (most recent call last):")
    assert trace.rstrip().endswith("second line")
    assert told("error", b"\x00") == ("an error that cannot be read", "")
    assert told("timeout", b"too long\nindeed") == ("too long", "")


def test_inputs_whose_containers_do_not_start_are_noted_up_to_twenty(bench: Bench) -> None:
    client = bench.client
    app = new_app_id()
    client.run(client.pools.open(bench.pool, spec=b"spec", app=app, function="f", label="f()"))
    call = bench.submit(30)
    reason = "init: Traceback:\nImportError: no such module"
    assert client.run(client.pools.purge(bench.pool, reason=reason)) == 30
    found = client.run(client.failures.recent(app, "f", count=1000))
    assert {each.index for each in found} == set(range(20))
    assert {(each.call, each.kind, each.reason) for each in found} == {
        (call, "init", "ImportError: no such module")
    }

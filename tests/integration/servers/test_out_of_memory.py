"""A server that is full: what takes memory is refused loudly, what frees or fences it passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import EnqueueError, ResourceExhaustedError
from qmodal.functions.results import value_of
from qmodal.transport.operation import Command
from qmodal.wire.outcome import Outcome
from qmodal_workers.container.run.admission import Admission
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.store import cases, object_cases as objects
from tests.support.store.bench import Bench
from tests.support.store.pack_cases import PACK_CASES, submit_packs

ALLOWED = [
    *(
        cases.settle,
        cases.settle_kept,
        cases.drop_arguments,
        cases.retry,
        cases.retry_later,
        cases.release,
        cases.reclaim,
    ),
    *(cases.mark, cases.reclaim_marked, cases.stop, cases.resign, cases.enroll, cases.retire),
    cases.succeed,
    *(cases.reclaim_lost, cases.cancel, cases.promote, cases.renew, cases.assign, cases.lead),
    *(cases.cordon, cases.describe),
    *(case for case in PACK_CASES if case is not submit_packs),
    *(cases.sweep, cases.bury, cases.purge, cases.leave, cases.observe, cases.take),
    *(cases.route, cases.prolong, cases.expire_part, cases.disown, cases.forget, cases.disuse),
    *(objects.take_entry, objects.touch_entry, objects.read_entries, objects.count_entries),
    *(objects.peek_items, objects.forget_partitions, objects.name_object),
]
REFUSED = [
    *(
        cases.submit,
        cases.submit_each,
        cases.submit_end,
        cases.open_pool,
        cases.join,
        cases.deploy,
        cases.override,
    ),
    *(
        cases.emit,
        cases.emit_too_much,
        cases.accept,
        cases.tag,
        cases.note,
        cases.count,
        cases.keep_secret,
    ),
    *(cases.note_run, cases.hold),
    submit_packs,
    *(objects.put_entry, objects.put_entries, objects.put_absent),
    *(objects.put_item, objects.put_items, objects.make_object),
]


@pytest.fixture(scope="module")
def own_server() -> Iterator[TestServer]:
    """A server that no other test needs to write to."""
    with run_server(server_binary()) as running:
        yield running


@pytest.fixture
def bench(own_server: TestServer) -> Iterator[Bench]:
    """A pool on that server, without the check of the common one."""
    client = Client(Settings(redis_url=own_server.url, signing_key=bytes(32)))
    yield Bench(client)
    with own_server.plain() as plain:
        plain.flushall()
    client.close()


@pytest.mark.parametrize("case", ALLOWED, ids=lambda case: case.__name__)
def test_a_full_server_lets_pass(
    bench: Bench, own_server: TestServer, case: Callable[[Bench], Command]
) -> None:
    command = case(bench)
    with own_server.full():
        reply = bench.ask(*command)
    assert not isinstance(reply, Exception)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.__name__)
def test_a_full_server_refuses(
    bench: Bench, own_server: TestServer, case: Callable[[Bench], Command]
) -> None:
    command = case(bench)
    with own_server.full():
        reply = bench.ask(*command)
    assert isinstance(reply, Exception)
    assert "maxmemory" in str(reply)


def test_every_case_is_in_one_of_the_tables() -> None:
    assert {*ALLOWED, *REFUSED} == {*cases.CASES, *PACK_CASES}


@pytest.mark.parametrize("blobs", [(), [(0, b"big")]], ids=["inline", "with a blob"])
def test_a_submit_to_a_full_server_is_an_error_and_writes_nothing(
    bench: Bench, own_server: TestServer, blobs: list[tuple[int, bytes]]
) -> None:
    submission = bench.submission(1, blobs=blobs)
    with own_server.full(), pytest.raises(EnqueueError, match="nothing was accepted"):
        bench.client.run(bench.client.calls.submit(submission))
    assert bench.inflight() == 0
    bench.client.run(bench.client.calls.submit(submission))
    assert bench.inflight() == 1


def test_an_outcome_is_kept_although_the_server_is_full(
    bench: Bench, own_server: TestServer
) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    with own_server.full():
        assert bench.settle(claimed, outcome=b"x" * 100_000) == [0, 1]
    assert bench.outputs(call) == [(0, b"o", b"x" * 100_000)]


def test_arguments_of_failed_inputs_make_room_on_a_server_that_fills(
    bench: Bench, own_server: TestServer
) -> None:
    def failed() -> str:
        call = bench.submit(blobs=[(0, b"large")])
        command = bench.settle_command(*bench.claim(), has_blob=True, keeps_arguments=True)
        commands.append(command)
        return call

    commands: list[Command] = []
    kept = bench.client.kept_arguments
    before, after = failed(), failed()
    bench.ask(*commands[0])
    assert bench.client.run(kept.read(before, 0)) == [b"large"]
    with own_server.full():
        assert bench.ask(*commands[1]) == [0, 1]
        assert bench.client.run(kept.read(before, 0)) == bench.client.run(kept.read(after, 0)) == []


def test_inputs_of_a_dead_container_come_back_although_the_server_is_full(
    bench: Bench, own_server: TestServer
) -> None:
    bench.submit(250)
    assert len(bench.claim(count=250)) == 250
    with own_server.full():
        op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=["*"])
        assert bench.client.run(op) == (250, 0)
    assert len(bench.claim("ta-a-2", count=300)) == 250


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [("maxmemory", "maxmemory"), ("proto_max_bulk_len", "proto-max-bulk-len")],
)
def test_a_result_that_finds_no_room_says_so_and_is_no_lost_worker(
    bench: Bench, own_server: TestServer, setting: str, sentence: str
) -> None:
    client, call = bench.client, bench.submit()
    value = Outcome("value", "m", bytes(2 << 20))
    with own_server.configured(**{setting: str(1 << 20)}):
        outcome = Admission(client, bench.pool).store_result(call, 0, value)
        with pytest.raises(ResourceExhaustedError, match=rf"2097152 bytes.*{sentence}"):
            value_of(client, outcome, outcome.payload, call, 0)
    assert Admission(client, bench.pool).store_result(call, 0, value).blob


def test_scripts_can_be_loaded_into_a_full_server(bench: Bench, own_server: TestServer) -> None:
    bench.submit()
    bench.ask(b"SCRIPT", b"FLUSH")
    with own_server.full():
        assert bench.client.run(bench.client.fleet.sweep({})) == {}

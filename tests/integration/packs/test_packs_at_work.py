"""A pack that is taken apart while its inputs run: each of them ends once, whatever comes between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import ConnectionError, EnqueueError
from qmodal.spec.options import FunctionOptions
from qmodal.transport.operation import Op
from qmodal_workers.container.run.admission import Admission
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.settle.settlement import Settlement
from tests.support.store.bench import Bench
from tests.support.store.envelopes import envelope_of

SIZE = 5
CONTAINER = "ta-a-1"
T = TypeVar("T")


class Faulty(Client):
    """A client with one fault to come: before the next operation, or in place of its reply."""

    before: Callable[[], object] | None = None
    loses_reply = False
    is_refused = False

    def run(self, op: Op[T]) -> T:
        """Drive the operation; the server has done what it asks although its reply is lost."""
        before, self.before = self.before, None
        loses, self.loses_reply = self.loses_reply, False
        refused, self.is_refused = self.is_refused, False
        if refused:
            raise EnqueueError("it writes nothing now")
        if before is not None:
            before()
        result = super().run(op)
        if loses:
            raise ConnectionError("the reply was lost")
        return result


@pytest.fixture
def client(settings: Settings) -> Iterator[Faulty]:
    """The client of the bench."""
    made = Faulty(settings)
    yield made
    made.close()


def pack_at(bench: Bench, place: int) -> tuple[Pack, Settlement]:
    """A claimed pack whose input at `place` runs; those before it have ended."""
    call = bench.submission(0).call
    envelope = envelope_of(pool=bench.pool, call=call, size=SIZE)
    sealed = envelope.seal(bench.client.signer)
    bench.submit(1, call=call, envelopes=[sealed], sizes=[SIZE], total=SIZE)
    (claimed,) = bench.claim(CONTAINER)
    work = Pack(claimed, envelope, {}, [[*range(SIZE)]])
    for _ in range(place + 1):
        work.waiting.popleft()
    work.results.extend(range(place))
    settlement = Settlement(
        client=bench.client,
        pool=bench.pool,
        container=CONTAINER,
        options=FunctionOptions(),
        admission=Admission(bench.client, bench.pool),
    )
    return work, settlement


def settle(bench: Bench, settlement: Settlement) -> None:
    bench.ask(*bench.client.pools.settle_command(bench.pool, settlement.take()))


def places(bench: Bench, call: str) -> list[tuple[int, int]]:
    """(index, count) of each output."""
    outputs = bench.client.run(bench.client.calls.read(call, b"0", block=0))
    return [(output.index, output.count) for output in outputs]


def notes(bench: Bench) -> list[bytes]:
    """The entries that stand for one input of their pack, as the pool's record has them."""
    fields: list[bytes] = bench.ask(b"HKEYS", bench.client.keys.pool(bench.pool))
    return [field for field in fields if field.startswith(b"kept:")]


@pytest.mark.parametrize(
    ("place", "ended", "left"),
    [(0, [(0, 1)], [(1, 4)]), (2, [(0, 2), (2, 1)], [(3, 2)]), (4, [(0, 4), (4, 1)], [])],
)
@pytest.mark.parametrize("way", ["in time", "its end meanwhile", "a lost reply", "two lost ones"])
def test_the_input_that_runs_ends_once_when_its_pack_is_taken_apart(
    bench: Bench,
    client: Faulty,
    way: str,
    place: int,
    ended: list[tuple[int, int]],
    left: list[tuple[int, int]],
) -> None:
    work, settlement = pack_at(bench, place)
    if way in ("a lost reply", "two lost ones"):
        for _ in range(1 if way == "a lost reply" else 2):
            client.loses_reply = True
            with pytest.raises(ConnectionError):
                settlement.splitter.split(work)
        assert not work.waiting  # others may be running that now
        work.results.append(place)
    elif way == "its end meanwhile":
        client.before = lambda: work.results.append(place)
        settlement.splitter.split(work)
    else:
        settlement.splitter.split(work)
        work.results.append(place)
    settlement.pack(work)
    settle(bench, settlement)
    assert places(bench, work.envelope.call) == ended
    assert [(one.first, one.size) for one in bench.claim("ta-a-2", 9)] == left
    assert bench.inflight() == sum(size for _, size in left)
    assert notes(bench) == []


def test_what_may_be_in_line_again_is_not_run_after_a_refusal(bench: Bench, client: Faulty) -> None:
    """The first attempt was carried out, although neither it nor the next one was answered so."""
    work, settlement = pack_at(bench, 2)
    client.loses_reply = True
    with pytest.raises(ConnectionError):
        settlement.splitter.split(work)
    client.is_refused = True
    with pytest.raises(EnqueueError):
        settlement.splitter.split(work)
    assert not work.waiting
    work.results.append(2)
    settlement.pack(work)
    settle(bench, settlement)
    assert places(bench, work.envelope.call) == [(0, 2), (2, 1)]
    assert bench.inflight() == 2


def test_what_did_not_run_of_a_pack_goes_back_in_line(bench: Bench) -> None:
    work, settlement = pack_at(bench, 2)
    work.results.append(2)
    settlement.pack(work)
    settle(bench, settlement)
    assert places(bench, work.envelope.call) == [(0, 3)]
    assert [(one.first, one.size) for one in bench.claim("ta-a-2", 9)] == [(3, 2)]


def test_a_whole_pack_waits_until_it_is_written(bench: Bench) -> None:
    work, settlement = pack_at(bench, SIZE - 1)
    work.results.append(SIZE - 1)
    settlement.pack(work)
    assert settlement.waiting == SIZE
    settle(bench, settlement)
    assert settlement.waiting == 0
    assert places(bench, work.envelope.call) == [(0, SIZE)]
    assert bench.inflight() == 0


def test_a_pack_is_not_concluded_while_it_is_taken_apart(bench: Bench, client: Faulty) -> None:
    work, settlement = pack_at(bench, 2)
    slot, splitter = Slot(), settlement.splitter
    slot.pack = work
    leaving = threading.Thread(target=splitter.detach, args=(slot,))

    def leave() -> None:
        leaving.start()
        leaving.join(0.05)
        assert leaving.is_alive()

    client.before = leave
    splitter.split_running(slot, work)
    leaving.join()
    assert work.is_kept
    assert slot.pack is not work


def test_a_pack_that_was_concluded_is_not_taken_apart_any_more(bench: Bench) -> None:
    work, settlement = pack_at(bench, 2)
    slot = Slot()
    slot.pack = work
    settlement.splitter.detach(slot)
    settlement.splitter.split_running(slot, work)
    assert not work.is_kept
    assert list(work.waiting) == [3, 4]

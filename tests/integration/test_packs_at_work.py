"""A pack that is taken apart while its inputs run: each of them ends once, whatever comes between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import TypeVar

import pytest

from qmodal.client import Client
from qmodal.exception import ConnectionError
from qmodal.options import FunctionOptions
from qmodal.settings import Settings
from qmodal.store.exchange import Op
from qmodal.wire.envelope import PYTHON, Envelope
from qmodal_workers.container.admission import Admission
from qmodal_workers.container.conclude import Conclusions
from qmodal_workers.container.pack import Pack
from qmodal_workers.container.shelf import Shelf
from tests.bench import Bench
from tests.driving import Background
from tests.support import wait_until

SIZE = 5
CONTAINER = "ta-a-1"
T = TypeVar("T")


class Faulty(Client):
    """A client with one fault to come: before the next operation, or in place of its reply."""

    before: Callable[[], object] | None = None
    loses_reply = False

    def run(self, op: Op[T]) -> T:
        """Drive the operation; the server has done what it asks although its reply is lost."""
        before, self.before = self.before, None
        loses, self.loses_reply = self.loses_reply, False
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


def pack_at(bench: Bench, place: int) -> tuple[Pack, Conclusions]:
    """A claimed pack whose input at `place` runs; those before it have ended."""
    call = bench.submission(0).call
    envelope = Envelope(bench.pool, call, 0, "", 1, None, PYTHON, "m", b"", None, None, SIZE)
    sealed = envelope.seal(bench.client.signer)
    bench.submit(1, call=call, envelopes=[sealed], sizes=[SIZE], total=SIZE)
    (claimed,) = bench.claim(CONTAINER)
    work = Pack(claimed, envelope, {}, [[n] for n in range(SIZE)], SIZE, threading.Lock())
    for done in range(place + 1):
        assert work.next()
        work.results += [done] if done < place else []
    conclusions = Conclusions(
        client=bench.client,
        pool=bench.pool,
        container=CONTAINER,
        options=FunctionOptions(),
        admission=Admission(bench.client, bench.pool),
    )
    return work, conclusions


def settle(bench: Bench, conclusions: Conclusions) -> None:
    bench.ask(*bench.client.pools.settle_command(bench.pool, conclusions.take()))


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
@pytest.mark.parametrize("way", ["in time", "its end meanwhile", "a lost reply"])
def test_the_input_that_runs_ends_once_when_its_pack_is_taken_apart(
    bench: Bench,
    client: Faulty,
    way: str,
    place: int,
    ended: list[tuple[int, int]],
    left: list[tuple[int, int]],
) -> None:
    work, conclusions = pack_at(bench, place)
    if way == "a lost reply":
        client.loses_reply = True
        with pytest.raises(ConnectionError):
            conclusions.split_off(work)
        work.results.append(place)
    elif way == "its end meanwhile":
        client.before = lambda: work.results.append(place)
        conclusions.split_off(work)
    else:
        conclusions.split_off(work)
        work.results.append(place)
    conclusions.pack(work)
    settle(bench, conclusions)
    assert places(bench, work.envelope.call) == ended
    assert [(one.first, one.size) for one in bench.claim("ta-a-2", 9)] == left
    assert bench.inflight() == sum(size for _, size in left)
    assert notes(bench) == []


def test_a_pack_is_not_concluded_while_it_is_being_taken_apart(bench: Bench) -> None:
    work, _ = pack_at(bench, 1)
    finish, is_late = Background(), list[bool]()

    def split(_: Pack) -> None:
        """As the release thread, while the input ends on the other one."""
        finished = finish.start(shelf.work_on, None)
        is_late.append(not wait([finished], 0.1).done)

    shelf = Shelf(lambda _: None, split, clock=time.monotonic_ns, tick=lambda _: None)
    work.since = 1
    shelf.work_on(work)
    wait_until(lambda: is_late, what="the pack is taken apart")
    finish.close()
    assert is_late == [True]

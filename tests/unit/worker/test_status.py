"""What a worker reads in a container's record while inputs come and go."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from qmodal.store.entries import Claimed
from qmodal_workers.container.intake.prefetch import PrefetchBuffer
from qmodal_workers.container.intake.status import StatusWriter
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.ipc.shared_record import (
    ONE_STARTED,
    ContainerStatus,
    SharedRecord,
)

ENTRIES = [
    Claimed(1, "5-0", ()),
    Claimed(1, "5-1", ()),
    Claimed(2, "6-0", ()),
    Claimed(1, "7-3", ()),
]
NAMES = tuple((lane, entry) for lane, entry, _ in ENTRIES)


class Container:
    """One that runs what it claimed, as far as its record goes."""

    def __init__(self) -> None:
        self.record = SharedRecord.create()
        self.slot = Slot()
        self.buffer = PrefetchBuffer(
            self.slot, fetch=list, release=lambda _: None, clock=time.monotonic_ns
        )
        self.status = StatusWriter(self.record, self.slot, self.buffer)
        self.buffer.queue.extend(ENTRIES)
        self.status.claimed(ENTRIES, 9)

    def take(self) -> None:
        """Look at the next input."""
        self.buffer.start()
        self.status.take()

    def run(self) -> ContainerStatus:
        """Run the next input; what the worker reads meanwhile."""
        self.take()
        self.slot.serial += 1
        self.status.busy()
        doing = self.read()
        self.status.completed += 1
        return doing

    def read(self) -> ContainerStatus:
        """What the worker reads."""
        doing = self.record.read()
        assert doing is not None
        return doing


@pytest.fixture
def container() -> Iterator[Container]:
    made = Container()
    yield made
    made.record.close()


def test_each_input_is_seen_in_its_turn(container: Container) -> None:
    seen = [container.run() for _ in ENTRIES]
    assert [doing.held for doing in seen] == [NAMES, NAMES[1:], NAMES[2:], NAMES[3:]]
    assert [doing.serial for doing in seen] == [1, 2, 3, 4]
    assert [doing.completed for doing in seen] == [0, 1, 2, 3]
    assert {(doing.state, doing.running, doing.part, doing.ahead) for doing in seen} == {
        ("busy", 1, 0, False)
    }
    assert sorted(doing.started for doing in seen) == [doing.started for doing in seen]
    assert seen[0].started < seen[-1].started


def test_what_was_given_back_is_not_seen_any_more(container: Container) -> None:
    container.run()
    container.buffer.queue.pop()
    assert container.run().held == NAMES[1:3]
    container.buffer.queue.clear()
    assert container.read().held == NAMES[1:3]  # as of its last word


def test_an_input_that_was_refused_is_passed_over(container: Container) -> None:
    container.run()
    container.take()
    doing = container.run()
    assert (doing.held, doing.serial, doing.completed) == (NAMES[2:], 2, 1)


def test_it_is_seen_that_more_was_claimed_ahead(container: Container) -> None:
    assert not container.run().ahead
    container.buffer.plan(1, is_background=False)
    doing = container.run()
    assert (doing.ahead, doing.held) == (True, NAMES[1:])


def test_the_inputs_of_a_pack_are_parts_of_its_entry(container: Container) -> None:
    container.run()
    container.take()
    container.status.packed(40)
    half = container.record.container
    half.started, half.serial = 1, 3  # as `pack_runner.run` does for its second input
    doing = container.read()
    assert (doing.serial, doing.part, doing.held, doing.completed) == (3, 41, NAMES[1:], 1)
    container.slot.serial = 3
    assert container.run().held == NAMES[2:]


def test_what_ran_last_counts_as_started_until_the_next_claim(container: Container) -> None:
    container.run()
    container.status.idle()
    doing = container.read()
    assert (doing.state, doing.serial, doing.running) == ("idle", 0, 1)
    assert doing.held == NAMES
    container.status.claimed([], 9)
    container.status.idle()
    assert container.read().running == 0


def test_of_a_pack_that_has_ended_the_last_input_counts_as_started(container: Container) -> None:
    container.take()
    container.status.packed(40)
    container.slot.part = 43
    container.status.idle()
    container.status.idle()
    doing = container.read()
    assert (doing.held[0], doing.running, doing.part) == (NAMES[0], 1, 43)


def test_an_input_whose_arguments_are_being_fetched_counts_as_started(container: Container) -> None:
    container.run()
    container.take()
    container.status.idle()
    assert container.read().held == NAMES[1:]


def test_after_a_pause_the_next_one_is_posted_as_a_whole(container: Container) -> None:
    container.run()
    container.status.idle()
    doing = container.run()
    assert (doing.state, doing.serial, doing.running) == ("busy", 2, 1)
    assert doing.held == NAMES[1:]


def test_of_the_next_claim_the_first_one_is_posted_as_a_whole(container: Container) -> None:
    container.run()
    container.status.claimed(ENTRIES[2:], 9)
    container.status.take()
    container.buffer.queue.popleft()
    container.slot.serial += 1
    container.status.busy()
    assert container.read().held == NAMES[2:]


@pytest.mark.parametrize(
    ("at", "garbage"),
    [("state", 99), ("first", 2**63), ("end", 0), ("length", 0), ("flags", 5 * ONE_STARTED)],
)
def test_a_record_that_user_code_wrote_into_is_not_believed(
    container: Container, at: str, garbage: int
) -> None:
    container.run()
    setattr(container.record.container, at, garbage)
    assert container.record.read() is None


@pytest.mark.parametrize(
    "name", ["x:5-0", "3:5-0", "1:x-0", "1:5", "1:5-0-0", "1:-", f"1:{2**64}-0", "1:5-\N{BULLET}"]
)
def test_what_is_no_name_of_an_entry_is_not_believed(container: Container, name: str) -> None:
    """The server would answer with an error, again and again."""
    container.record.hold([name])
    half = container.record.begin(1, serial=1, started=1)
    half.flags, half.first, half.end = ONE_STARTED, 0, 1
    container.record.publish()
    assert container.record.read() is None

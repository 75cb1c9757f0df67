"""When a sweeper believes that a box is lost: the server may stand still, and it may be cut off itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qmodal.store.fleet import LEASE_MS
from qmodal.store.watch.sweeper import FleetWatch

LIVING, LOST = "wk-living", "wk-lost"
START = 1_000_000
RENEWED = 2_000  # how often a box renews its lease
Stall = tuple[int, int]


def stalls(length: int, every: int, until: int = 300_000) -> list[Stall]:
    """Times, in ms since the start, between which the server stands still again and again."""
    return [(at, at + length) for at in range(every - length, until, every)]


def served(moment: int, stood: list[Stall]) -> int:
    """When a request of that moment is answered."""
    return next((end for begin, end in stood if begin <= moment < end), moment)


def looks(stood: list[Stall], until: int = 300_000) -> Iterator[int]:
    """When a sweeper that asks a second after the last answer is answered."""
    moment = 0
    while moment < until:
        moment = served(moment + 1_000, stood)
        yield moment


def end_of_lease(moment: int, stood: list[Stall]) -> int:
    """Of a box that renews, and repeats that half a second after a pause."""
    renewed = [served(at, stood) for at in range(0, moment + 1, RENEWED)]
    return max(at for at in renewed if at <= moment - 500 or at == 0) + LEASE_MS


def given_up(stood: list[Stall], died: int, until: int = 300_000) -> dict[str, int]:
    """When each box is given up; one has renewed its lease for the last time at `died`."""
    view, found = FleetWatch(), dict[str, int]()
    for moment in looks(stood, until):
        leases = {LIVING: end_of_lease(moment, stood), LOST: died + LEASE_MS}
        shifted = {box: float(START + ends) for box, ends in leases.items()}
        for box in view.look(START + moment, shifted):
            found.setdefault(box, moment)
    return found


@pytest.mark.parametrize(
    ("stood", "within"),
    [
        ([], 12_000),
        (stalls(2_500, every=8_000), 20_000),
        (stalls(2_500, every=4_000), 25_000),
        (stalls(3_500, every=4_500), 50_000),
        (stalls(9_000, every=10_000), 120_000),
    ],
    ids=["none", "2.5 of 8 s", "2.5 of 4 s", "3.5 of 4.5 s", "9 of 10 s"],
)
def test_a_lost_box_is_given_up_in_bounded_time_and_a_living_one_never(
    stood: list[Stall], within: int
) -> None:
    for died in range(20_000, 30_000, 700):
        found = given_up(stood, died)
        assert set(found) == {LOST}
        assert LEASE_MS <= found[LOST] - died <= within, f"died at {died}"


@pytest.mark.parametrize("length", [2_500, 11_000, 120_000])
def test_a_pause_of_the_server_ends_nothing(length: int) -> None:
    found = given_up([(20_000, 20_000 + length)], 20_000 + length, until=20_000 + length + 9_000)
    assert found == {}


def test_a_sweeper_that_has_just_begun_waits_for_a_lease() -> None:
    view, ended = FleetWatch(), {LOST: 1.0}
    first = [bool(view.look(now, ended)) for now in range(START, START + 12_000, 1_000)]
    assert first == [False] * 10 + [True] * 2


def test_a_sweeper_that_was_cut_off_does_not_count_that_time() -> None:
    view = FleetWatch()
    for now in range(START, START + 4_000, 1_000):
        view.look(now, {LIVING: float(START + 5_000)})
    assert view.look(START + 60_000, {LIVING: float(START + 5_000)}) == {}
    assert view.look(START + 61_000, {LIVING: float(START + 71_000)}) == {}


def test_a_clock_that_is_set_back_or_forth_ends_nothing() -> None:
    view = FleetWatch()
    for now in (START, START + 1_000, START + 3_600_000, START + 500, START + 1_500):
        assert view.look(now, {LIVING: float(START + 900)}) == {}


def test_a_renewal_begins_the_time_anew() -> None:
    view = FleetWatch()
    for now in range(START, START + 10_000, 1_000):
        assert view.look(now, {LIVING: float(START)}) == {}
    assert view.look(START + 10_000, {LIVING: float(START + 1)}) == {}


def test_a_box_that_was_given_up_is_named_until_it_is_cleared() -> None:
    view = FleetWatch()
    assert view.look(START, {LOST: 0.0}) == {LOST: 0.0}
    assert view.look(START + 1, {}) == {}

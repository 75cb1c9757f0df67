"""Packs on the embedded stack: several inputs in an entry, and nobody can tell but by the speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.exception import FunctionTimeoutError, WorkerLost
from qmodal.transport.operation import ask_one
from tests.support.stacks import deployed_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "packs.py"
COUNT = 600  # the first hundred go alone, as nobody knows yet how long they take


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The deployed program; one stack for all tests of this module."""
    with deployed_program(PROGRAM, tmp_path_factory) as module:
        yield module


@pytest.fixture
def mark(tmp_path: Path) -> str:
    """A file that does not exist yet."""
    return str(tmp_path / "mark")


def entries_of(function: Any) -> int:
    """How many entries the pool's stream was ever given."""
    client = clients.current()
    pool = function.object_id.removeprefix("fu-")
    key = client.keys.inputs(pool)
    about = client.run(ask_one(b"XINFO", b"STREAM", key))
    return int(about[about.index(b"entries-added") + 1])


def test_short_inputs_share_entries_and_results_keep_their_order(user: Any) -> None:
    user.echo.hydrate()
    assert list(user.echo.map(range(5000))) == list(range(5000))
    assert entries_of(user.echo) < 2500
    assert sorted(user.echo.map(range(COUNT), order_outputs=False)) == list(range(COUNT))


@contextmanager
def unpacked() -> Iterator[None]:
    """An entry for each input."""
    before = clients.use(Client(replace(clients.current().settings, packing=False)))
    try:
        yield
    finally:
        clients.current().close()
        clients.use(before)


def test_packing_can_be_turned_off(user: Any) -> None:
    assert user.echo.remote("first") == "first"  # its stream is there
    entries = entries_of(user.echo)
    with unpacked():
        assert list(user.echo.map(range(COUNT))) == list(range(COUNT))
    assert entries_of(user.echo) == entries + COUNT


def test_inputs_that_may_not_run_twice_go_alone(user: Any) -> None:
    user.once.hydrate()
    assert list(user.once.map(range(200))) == list(range(200))
    assert entries_of(user.once) == 200


def test_values_of_all_kinds_come_back_as_they_were(user: Any) -> None:
    kinds = [
        None,
        True,
        2**80,
        1.5,
        "x" * 3000,
        b"y",
        (1, [2]),
        {"a": {3}},
        date(2026, 1, 2),
        Path("p"),
    ]
    assert list(user.echo.map(kinds * 60)) == kinds * 60


def test_every_input_of_a_pack_has_its_own_id(user: Any) -> None:
    found = list(user.name_of.map(range(COUNT)))
    assert len({name for name, _ in found}) == COUNT
    assert len({call for _, call in found}) == 1
    assert [str(name).rpartition("-")[2] for name, _ in found] == [str(n) for n in range(COUNT)]


def test_a_value_that_later_inputs_change_is_written_as_it_was(user: Any) -> None:
    found = list(user.grows.map(range(200)))
    assert [seen[-1] for seen in found] == list(range(200))
    # What was given back in between, because another input took long, has run later.
    assert sorted(map(len, found)) == list(range(1, 201))


def test_inputs_of_a_pack_fail_one_by_one(user: Any) -> None:
    found = list(user.odd_fails.map(range(COUNT), return_exceptions=True))
    assert [str(each) for each in found[:4]] == ["0", "1 is odd", "2", "3 is odd"]
    assert [type(each) for each in found] == [int, ValueError] * (COUNT // 2)


def test_a_retry_runs_the_input_that_failed_and_no_other(user: Any, mark: str) -> None:
    assert list(user.third_time.map([mark] * COUNT, range(COUNT))) == list(range(COUNT))
    ran = user.lines(mark)
    assert {x: ran.count(x) for x in range(COUNT) if ran.count(x) != 1} == dict.fromkeys(
        range(7, COUNT, 50), 3
    )


@pytest.mark.parametrize("way", [nullcontext, unpacked], ids=["packed", "claimed together"])
def test_neither_inputs_nor_results_wait_for_a_long_input(user: Any, mark: str, way: Any) -> None:
    seen = []
    with way():
        for x in user.waits_for.map([mark] * COUNT, range(COUNT), order_outputs=False):
            seen.append(x)
            if len(seen) == COUNT - 1:
                assert 300 not in seen
                Path(mark).touch()
    assert sorted(seen) == list(range(COUNT))


def test_a_pack_whose_inputs_became_slow_is_shared_with_other_containers(user: Any) -> None:
    user.slow_at_the_end.autoscaler.update(min_containers=2)
    stats = user.slow_at_the_end.get_current_stats
    wait_until(lambda: stats().input_headroom == 2, what="two containers claim", seconds=30)
    found = list(user.slow_at_the_end.map(range(360)))
    assert [x for x, _ in found] == list(range(360))
    assert len({pid for _, pid in found[300:]}) == 2


def test_a_container_that_dies_in_a_pack_costs_no_result(user: Any, mark: str) -> None:
    assert list(user.dies_once.map([mark] * COUNT, range(COUNT))) == list(range(COUNT))


def test_of_a_pack_only_the_input_that_kills_its_containers_is_lost(user: Any) -> None:
    found = list(user.poison.map(range(COUNT), return_exceptions=True))
    assert [x for x in found if isinstance(x, int)] == [x for x in range(COUNT) if x != 300]
    assert isinstance(found[300], WorkerLost)


@pytest.mark.parametrize("how", ["python", "c"])
def test_of_a_pack_only_the_input_that_takes_too_long_times_out(user: Any, how: str) -> None:
    found = list(user.overruns.map([how] * COUNT, range(COUNT), return_exceptions=True))
    assert [x for x in found if isinstance(x, int)] == [x for x in range(COUNT) if x != 300]
    assert isinstance(found[300], FunctionTimeoutError)


def test_an_input_that_interrupts_its_container_runs_again(user: Any, mark: str) -> None:
    assert list(user.interrupts_itself.map([mark] * COUNT, range(COUNT))) == list(range(COUNT))


def test_results_of_a_spawned_map_are_found_by_index_and_in_order(user: Any) -> None:
    assert list(user.echo.map(range(COUNT))) == list(range(COUNT))  # the pool learns
    call = user.echo.spawn_map(range(COUNT))
    assert call.num_inputs() == COUNT
    assert [call.get(index=n) for n in (0, 123, COUNT - 1)] == [0, 123, COUNT - 1]
    assert list(call.iter(start=150, end=160)) == list(range(150, 160))
    assert list(call.iter()) == list(range(COUNT))
    assert [each.status.name for each in call.get_call_graph()] == ["SUCCESS"] * COUNT


def test_a_map_that_is_left_early_leaves_no_input_behind(user: Any) -> None:
    for x in user.echo.map(range(100_000)):
        if x == 500:
            break
    # What was claimed still runs.
    wait_until(lambda: user.echo.get_current_stats().backlog == 0, what="the end of the backlog")
    assert user.echo.remote("after") == "after"

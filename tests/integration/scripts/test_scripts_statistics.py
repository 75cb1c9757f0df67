"""Statistics on the server: each batch is added once, and what cannot be added to is left alone."""

from __future__ import annotations

import pytest

from qmodal.client.client import Client
from qmodal.store.history import statistics
from qmodal.store.history.statistics import Counts, Series
from qmodal.transport.operation import ask, ask_one

SQUARE, CUBE = Series("main", "shop", "square"), Series("main", "shop", "Shapes.cube")


def add(client: Client, number: int, changes: dict[Series, Counts], *, by: str = "wk-1") -> bool:
    return client.run(client.statistics.add(by, number, changes))


def read(client: Client) -> dict[Series, dict[str, int]]:
    """All that is there."""
    return client.run(client.statistics.read(client.run(client.statistics.series())))


def test_boxes_add_up_what_they_have_counted(client: Client) -> None:
    assert add(client, 1, {SQUARE: {"value": 2, "run:sum": 30}, CUBE: {"error": 1}})
    assert add(client, 1, {SQUARE: {"value": 5}}, by="wk-2")
    assert add(client, 2, {SQUARE: {"value": 1}})
    assert read(client) == {SQUARE: {"value": 8, "run:sum": 30}, CUBE: {"error": 1}}


def test_a_batch_that_is_repeated_is_added_once(client: Client) -> None:
    assert add(client, 1, {SQUARE: {"value": 2}})
    assert not add(client, 1, {SQUARE: {"value": 2}})
    assert add(client, 2, {SQUARE: {"value": 2}})
    assert not add(client, 1, {SQUARE: {"value": 2}})
    assert read(client) == {SQUARE: {"value": 4}}


def test_what_is_no_number_is_left_alone_and_the_rest_is_added(client: Client) -> None:
    key = client.keys.statistics(SQUARE.name)
    client.run(ask_one(b"HSET", key, b"value", b"many", b"error", b"-3", b"nonsense", b"7"))
    assert add(client, 1, {SQUARE: {"value": 2, "timeout": 1}, CUBE: {"value": 1}})
    assert read(client) == {SQUARE: {"timeout": 1}, CUBE: {"value": 1}}


def test_a_key_of_another_type_costs_its_function_only(client: Client) -> None:
    client.run(ask((b"SET", client.keys.statistics(SQUARE.name), b"x", b"PX", 60_000)))
    assert add(client, 1, {SQUARE: {"value": 2}, CUBE: {"value": 1}})
    assert read(client) == {CUBE: {"value": 1}}


def test_names_in_the_index_that_are_none_are_left_out(client: Client) -> None:
    add(client, 1, {CUBE: {"value": 1}})
    client.run(ask_one(b"ZADD", client.keys.statistics_index, 1, b"nobody", 1, b"\xff/a/b"))
    assert client.run(client.statistics.series()) == [CUBE]


def test_the_functions_that_changed_least_lately_go(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "MOST_SERIES", 2)
    for number, name in enumerate("abc", 1):
        add(client, number, {Series("main", "shop", name): {"value": 1}})
    left = client.run(client.statistics.series())
    assert len(left) == 2
    everything = [Series("main", "shop", name) for name in "abc"]
    assert set(client.run(client.statistics.read(everything))) == set(left)


def test_all_of_it_has_a_lifetime(client: Client) -> None:
    add(client, 1, {SQUARE: {"value": 1}})
    keys = client.keys
    names = (keys.statistics_index, keys.statistics(SQUARE.name), keys.counted("wk-1"))
    lives = client.run(ask(*((b"PTTL", name) for name in names)))
    assert all(0 < left <= statistics.KEEP_STATISTICS_MS for left in lives), lives


def test_an_index_of_another_type_stops_nothing(client: Client) -> None:
    client.run(ask((b"SET", client.keys.statistics_index, b"x", b"PX", 60_000)))
    assert add(client, 1, {SQUARE: {"value": 1}})
    assert not add(client, 1, {SQUARE: {"value": 1}})
    assert client.run(client.statistics.series()) == []
    assert client.run(client.statistics.read([SQUARE])) == {SQUARE: {"value": 1}}

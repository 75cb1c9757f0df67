"""Chores: what each clears up, that it leaves the rest alone, and that it may be repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.services.control.chores.book import BOOK
from qmodal.services.control.chores.doing import Doing
from qmodal.services.control.chores.work import KEEP_DEAD_MS, KEEP_VERSION_MS, KEEP_VERSIONS, WORK
from qmodal.store.apps import AppRecord
from qmodal.store.history.statistics import Series
from qmodal.store.history.usage import DAY_MS
from qmodal.store.keys import GROUP
from qmodal.store.server import server_ms
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import new_app_id, new_call_id
from tests.support.store.bench import APP, Bench


def ask(client: Client, *command: Any) -> Any:
    return client.run(ask_one(*command))


def do(client: Client, name: str, now: int | None = None) -> str:
    """Do the chore; what it says."""
    return client.run(WORK[name](client, now or round(client.run(server_ms()))))


def test_every_chore_of_the_book_can_be_done() -> None:
    assert WORK.keys() == BOOK.keys()


@pytest.mark.parametrize("name", BOOK)
def test_a_chore_finds_nothing_to_do_on_a_healthy_server_and_says_how_it_went(
    bench: Bench, client: Client, name: str
) -> None:
    bench.submit(2)
    before = sorted(ask(client, b"KEYS", client.settings.prefix + ":*"))
    doing = Doing(client, "ct-1")
    for slot in (1000, 2000):
        doing.do(name, slot)
    record = client.run(client.chores.all())[name]
    assert (record.slot, record.error, record.process) == (2000, "", "ct-1")
    assert record.good == record.at
    after = sorted(ask(client, b"KEYS", client.settings.prefix + ":*"))
    assert [key for key in after if key not in before] == [client.keys.chores.encode()]


def test_a_chore_that_fails_is_noted_and_keeps_when_it_went_well(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    doing = Doing(client, "ct-1")
    doing.do("results", 1000)
    good = client.run(client.chores.all())["results"].good

    def broken(_client: Client, _now: int) -> Any:
        yield from ()
        raise Error("no luck")

    monkeypatch.setitem(WORK, "results", broken)
    with pytest.raises(Error, match="no luck"):
        doing.do("results", 2000)
    record = client.run(client.chores.all())["results"]
    assert (record.error, record.good) == ("no luck", good)


def test_what_is_left_of_a_call_gets_a_lifetime_and_what_belongs_to_one_is_left_alone(
    bench: Bench, client: Client
) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    bench.settle(claimed)
    other = bench.submit()
    ask(client, b"SET", client.keys.blob(other, 0), b"payload")
    gone = new_call_id(0)
    ask(client, b"XADD", client.keys.outputs(gone), b"*", b"i", b"0")
    assert do(client, "results") == "1 leftovers of calls"
    assert ask(client, b"PTTL", client.keys.outputs(gone)) > 0
    assert ask(client, b"PTTL", client.keys.blob(other, 0)) == -1
    assert ask(client, b"EXISTS", client.keys.outputs(call)) == 1
    assert do(client, "results") == "0 leftovers of calls"
    ask(client, b"UNLINK", client.keys.blob(other, 0))


def test_what_is_left_of_apps_and_boxes_gets_a_lifetime(client: Client) -> None:
    keys = client.keys
    ask(client, b"HSET", keys.settings("ap-gone"), b"f", b"v")
    ask(client, b"HSET", keys.assigned("wk-gone"), b"ta", b"p")
    ask(client, b"HSET", keys.app("ap-here"), b"state", b"deployed")
    ask(client, b"HSET", keys.settings("ap-here"), b"f", b"v")
    assert do(client, "orphans").startswith("2 leftovers of apps and boxes")
    assert ask(client, b"PTTL", keys.settings("ap-here")) == -1
    assert do(client, "orphans").startswith("0 leftovers of apps and boxes")
    ask(client, b"UNLINK", keys.app("ap-here"), keys.settings("ap-here"))


def test_arguments_of_failed_inputs_go_when_their_app_has_stopped(
    bench: Bench, client: Client
) -> None:
    record = AppRecord(app_id=APP, name="bench", environment="main", state="ephemeral", version=1)
    client.run(client.apps.publish(record, document=b"doc", now=1))
    call = bench.submit(blobs=[(0, b"large")])
    bench.settle(*bench.claim(), has_blob=True, keeps_arguments=True)
    assert do(client, "orphans").endswith(" 0 failed inputs")
    assert client.run(client.kept_arguments.read(call, 0)) == [b"large"]
    client.run(client.apps.stop(record))
    assert do(client, "orphans").endswith(" 1 failed inputs")
    assert client.run(client.kept_arguments.read(call, 0)) == []


def test_only_old_dead_letters_are_removed(client: Client) -> None:
    now = round(client.run(server_ms()))
    key = client.keys.dead(3)
    for at in (now - KEEP_DEAD_MS - 1000, now - 1000):
        ask(client, b"XADD", key, f"{at}-0", b"why", b"lost")
    assert do(client, "dead-letters", now) == "1 dead letters removed"
    assert do(client, "dead-letters", now) == "0 dead letters removed"
    assert ask(client, b"XLEN", key) == 1
    ask(client, b"UNLINK", key)


def test_the_list_of_active_pools_is_mended(bench: Bench, client: Client) -> None:
    keys, pool = client.keys, bench.pool
    bench.submit()
    active = keys.active(int(pool[:2], 16) % 64)
    ask(client, b"ZREM", active, pool)
    gone = "00" * 16
    ask(client, b"ZADD", keys.active(0), 1, gone)
    assert do(client, "active-set").endswith("2 mended")
    assert client.run(client.observing.active()) == [pool]
    ask(client, b"UNLINK", keys.again(pool))
    assert do(client, "active-set").endswith("1 mended")
    assert ask(client, b"XINFO", b"GROUPS", keys.again(pool))[0][1] == GROUP
    assert do(client, "active-set").endswith("0 mended")


def publish(client: Client, app_id: str, count: int) -> AppRecord:
    """So many versions of an app, each with a bundle that two of them share."""
    record = AppRecord(app_id=app_id, name="shop", environment="main", state="deployed", version=0)
    for number in range(1, count + 1):
        record = replace(record, version=number)
        digest = f"{(number + 1) // 2:064x}"
        client.run(client.apps.store_code(digest, b"source"))
        publishing = client.apps.publish(record, document=b"doc", now=1, bundle=digest)
        assert client.run(publishing)
    return record


def test_old_versions_and_their_code_are_forgotten_but_for_the_last_hundred(client: Client) -> None:
    app_id = new_app_id()
    record = publish(client, app_id, KEEP_VERSIONS + 3)
    assert do(client, "code", KEEP_VERSION_MS).startswith("0 versions")
    later = KEEP_VERSION_MS + 1000
    assert do(client, "code", later) == "3 versions and 0 uses of code forgotten"
    assert do(client, "code", later).startswith("0 versions")
    documents = [
        number
        for number, (_, document) in enumerate(
            client.run(client.apps.published(app_id, record.version)), 1
        )
        if document is not None
    ]
    assert documents == list(range(4, KEEP_VERSIONS + 4))
    # The bundle of versions 1 and 2 goes, that of 3 and 4 is needed.
    assert ask(client, b"PTTL", client.keys.code(f"{1:064x}")) > 0
    assert ask(client, b"PTTL", client.keys.code(f"{2:064x}")) == -1
    client.run(client.apps.stop(record))


def test_code_of_apps_that_are_gone_is_forgotten(client: Client) -> None:
    digest = "ab" * 32
    ask(client, b"SET", client.keys.code(digest), b"source")
    ask(client, b"SADD", client.keys.code_apps(digest), new_app_id())
    assert do(client, "code") == "0 versions and 1 uses of code forgotten"
    assert ask(client, b"PTTL", client.keys.code(digest)) > 0
    assert ask(client, b"EXISTS", client.keys.code_apps(digest)) == 0


def test_statistics_are_kept_once_for_each_day(client: Client) -> None:
    series = Series("main", "shop", "f")
    client.run(client.statistics.add("ta-1", 1, {series: {"value": 5}}))
    now = 100 * DAY_MS + 1000
    assert do(client, "statistics", now) == "1 functions, 1 of them for a new day"
    client.run(client.statistics.add("ta-1", 2, {series: {"value": 2}}))
    assert do(client, "statistics", now + 1000) == "1 functions, 0 of them for a new day"
    assert do(client, "statistics", now + DAY_MS) == "1 functions, 1 of them for a new day"
    for day, value in ((0, 5), (100, 5), (101, 7)):
        assert client.run(client.usage.since(day * DAY_MS, [series]))[series]["value"] == value
    assert client.run(client.usage.since(102 * DAY_MS, [series])) == {}

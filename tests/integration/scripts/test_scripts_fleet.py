"""Scripts of boxes, leaders and apps: who may, and who comes too late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgpack
import pytest

from qmodal.cli.commands.fleet import look
from qmodal.client.client import Client
from qmodal.store.apps import AppRecord
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.store.watch.boxes import BoxRecord, Cordon
from qmodal.transport.connection import Address, Connection

WORKER = "wk-fleet"
REPORT = WorkerReport(
    worker=WORKER,
    host="here",
    pid=7,
    cpus=2.0,
    memory=1024,
    max_containers=4,
    python="3.11",
    version="0.1",
    labels=("gpu",),
)
CONTAINER = ContainerReport(
    container="ta-fleet-1",
    pool="pool",
    app="ap-1",
    function="f",
    label="f()",
    number=1,
    state="ready",
    since=5,
)
RECORD = AppRecord(app_id="ap-1", name="shop", environment="main", state="deployed", version=1)


@pytest.fixture
def line(client: Client) -> Iterator[Connection]:
    """A raw line to the session's server."""
    made = Connection(Address(client.settings.redis_url or ""))
    made.connect()
    yield made
    made.close()


@pytest.fixture
def box(client: Client) -> Iterator[str]:
    """An enrolled box."""
    client.run(client.fleet.enroll(REPORT))
    yield WORKER
    client.run(client.fleet.retire(WORKER))


def test_a_box_is_what_it_reports(client: Client, box: str) -> None:
    fleet = client.fleet
    assert client.run(fleet.reports([box, "wk-other"])) == [REPORT]
    assert client.run(fleet.renew(box, {CONTAINER.container: CONTAINER}))
    assert client.run(fleet.containers([box])) == {box: [CONTAINER]}
    ended = replace(CONTAINER, state="ended", detail="exit 1")
    assert client.run(fleet.renew(box, {CONTAINER.container: ended}))
    assert client.run(fleet.containers([box])) == {box: [ended]}
    assert client.run(fleet.renew(box, {CONTAINER.container: None}))
    assert client.run(fleet.containers([box])) == {box: []}


def test_renewal_moves_the_end_of_the_lease(client: Client, box: str, line: Connection) -> None:
    soon = client.run(client.fleet.workers())[box] - 9_000
    line.exchange([(b"ZADD", client.keys.workers, soon, box)])
    assert client.run(client.fleet.renew(box, {}))
    assert client.run(client.fleet.workers())[box] > soon + 8_000


def test_a_box_that_was_given_up_cannot_renew(client: Client, box: str, line: Connection) -> None:
    fleet = client.fleet
    assert client.run(fleet.sweep(client.run(fleet.workers()))) == {}, "its lease has not ended"
    line.exchange([(b"ZADD", client.keys.workers, 1, box)])
    (since,) = client.run(fleet.sweep({box: 1.0})).values()
    assert not client.run(client.fleet.renew(box, {CONTAINER.container: CONTAINER}))
    assert client.run(client.fleet.containers([box])) == {box: []}
    assert client.run(client.fleet.workers()) == {box: 0.0}
    assert client.run(fleet.sweep({box: 0.0})) == {box: since}, "it is named until it is cleared"
    client.run(fleet.retire(box))
    assert client.run(fleet.sweep({box: 0.0})) == {}


def test_living_is_what_no_box_was_given_up_with_and_what_has_not_ended(
    client: Client, box: str, line: Connection
) -> None:
    """Statistics and lists counted containers of boxes that were given up."""
    fleet = client.fleet
    ended = replace(CONTAINER, container="ta-ended", state="ended")
    client.run(fleet.renew(box, {CONTAINER.container: CONTAINER, ended.container: ended}))
    assert client.run(fleet.living_workers()) == [box]
    assert client.run(fleet.living_containers()) == {box: [CONTAINER]}
    assert client.run(look(client)).alive == [(box, CONTAINER)]
    line.exchange([(b"ZADD", client.keys.workers, 0, box)])
    assert client.run(fleet.living_workers()) == []
    assert client.run(fleet.living_containers()) == {}
    table = client.run(look(client))
    assert (table.alive, list(table.boxes)) == ([], [box])


def test_a_box_that_has_renewed_since_it_was_looked_at_is_not_given_up(
    client: Client, box: str, line: Connection
) -> None:
    line.exchange([(b"ZADD", client.keys.workers, 1, box)])
    leases = client.run(client.fleet.workers())
    assert client.run(client.fleet.renew(box, {}))
    assert client.run(client.fleet.sweep(leases)) == {}


def test_a_box_is_cordoned_and_drained_until_it_is_uncordoned(client: Client, box: str) -> None:
    boxes = client.boxes
    assert client.run(boxes.records([box, "wk-other"])) == {box: BoxRecord(report=REPORT)}
    assert client.run(boxes.cordon(box))
    cordon = client.run(boxes.cordon_of(box))
    assert cordon.is_closed
    assert not cordon.drained
    assert client.run(boxes.drain(box))
    drained = client.run(boxes.records([box]))[box].cordon
    assert drained.cordoned == cordon.cordoned, "it is cordoned since it was first"
    assert drained.drained >= cordon.cordoned
    assert client.run(boxes.cordon(box))
    assert client.run(boxes.cordon_of(box)) == drained, "to cordon it does not end its drain"
    assert client.run(boxes.uncordon(box))
    assert client.run(boxes.cordon_of(box)) == Cordon()


def test_nobody_cordons_a_box_that_has_left_or_was_given_up(
    client: Client, box: str, line: Connection
) -> None:
    assert not client.run(client.boxes.cordon("wk-other")), "its record would never go"
    line.exchange([(b"ZADD", client.keys.workers, 0, box)])
    assert not client.run(client.boxes.drain(box))
    assert not client.run(client.boxes.describe(REPORT))
    assert client.run(client.boxes.records([box, "wk-other"])) == {box: BoxRecord(report=REPORT)}


def test_a_box_comes_back_as_it_was_cordoned(client: Client) -> None:
    cordon = Cordon(cordoned=5, drained=7)
    client.run(client.fleet.enroll(REPORT, cordon.fields))
    assert client.run(client.boxes.cordon_of(WORKER)) == cordon
    client.run(client.fleet.enroll(REPORT))
    client.run(client.fleet.retire(WORKER))


def test_a_box_may_change_what_it_offers(client: Client, box: str) -> None:
    client.run(client.boxes.cordon(box))
    assert client.run(client.boxes.describe(replace(REPORT, cpus=1.0)))
    record = client.run(client.boxes.records([box]))[box]
    assert record.report.cpus == 1.0
    assert record.cordon.is_closed, "it stays cordoned"


@pytest.mark.parametrize("raw", [b"soon", b"-5", b"1e3", b"\xff"])
def test_what_no_moment_is_cordons_no_box(
    client: Client, box: str, line: Connection, raw: bytes
) -> None:
    line.exchange([(b"HSET", client.keys.worker(box), b"cordoned", raw)])
    assert client.run(client.boxes.cordon_of(box)) == Cordon()


def test_renewal_does_not_enroll(client: Client) -> None:
    assert not client.run(client.fleet.renew("wk-stranger", {}))
    assert client.run(client.fleet.workers()) == {}


def test_an_assignment_of_an_old_epoch_is_refused(
    client: Client, box: str, line: Connection
) -> None:
    fleet = client.fleet
    old = client.run(fleet.lead("as-1"))
    line.exchange([(b"DEL", client.keys.leader)])
    new = client.run(fleet.lead("as-2"))
    assert new == old + 1
    assert not client.run(fleet.assign(box, {"ta-1": "pool"}, epoch=old))
    assert client.run(fleet.assigned([box])) == {box: {}}
    assert client.run(fleet.assign(box, {"ta-1": "pool", "ta-2": "other"}, epoch=new))
    assert client.run(fleet.assign(box, {"ta-2": None}, epoch=new))
    assert client.run(fleet.assigned([box])) == {box: {"ta-1": "pool"}}


def test_a_box_that_left_is_assigned_nothing(client: Client) -> None:
    """Its hash would stay for ever: nobody deletes what belongs to a box that is gone."""
    epoch = client.run(client.fleet.lead("as-1"))
    assert client.run(client.fleet.assign("wk-gone", {"ta-1": "pool"}, epoch=epoch))
    assert client.run(client.fleet.assigned(["wk-gone"])) == {"wk-gone": {}}


def test_one_autoscaler_leads_until_it_resigns_or_is_silent(
    client: Client, line: Connection
) -> None:
    fleet = client.fleet
    first = client.run(fleet.lead("as-1"))
    assert client.run(fleet.lead("as-2")) == 0
    assert client.run(fleet.lead("as-1")) == first, "keeping the lead is not a new leadership"
    client.run(fleet.resign("as-2"))
    assert client.run(fleet.lead("as-2")) == 0
    client.run(fleet.resign("as-1"))
    assert client.run(fleet.lead("as-2")) == first + 1
    line.exchange([(b"DEL", client.keys.leader)])  # its time is over
    assert client.run(fleet.lead("as-1")) == first + 2


def test_of_two_deploys_of_one_version_the_second_is_stale(client: Client) -> None:
    apps = client.apps
    assert client.run(apps.publish(RECORD, document=b"one", now=1))
    assert client.run(apps.publish(RECORD, document=b"one", now=1)), "its reply was lost"
    assert not client.run(apps.publish(RECORD, document=b"another", now=1))
    assert not client.run(apps.publish(replace(RECORD, version=3), document=b"three", now=1))
    assert not client.run(apps.publish(replace(RECORD, app_id="ap-2"), document=b"one", now=1))
    assert client.run(apps.publish(replace(RECORD, version=2), document=b"two", now=2))
    assert client.run(apps.find("main", "shop")) == "ap-1"
    assert client.run(apps.record("ap-1")) == replace(RECORD, version=2)
    assert client.run(apps.version("ap-1", 2)) == b"two"
    client.run(apps.stop(replace(RECORD, version=2)))
    assert client.run(apps.find("main", "shop")) is None
    assert client.run(apps.version("ap-1", 1)) is None


def test_overrides_end_with_the_next_deploy_and_with_their_app(client: Client) -> None:
    apps = client.apps
    client.run(apps.override("ap-1", "pool", {"min": 1}))
    assert client.run(apps.overrides("ap-1")) == {}, "there is no such app"
    client.run(apps.publish(RECORD, document=b"one", now=1))
    client.run(apps.override("ap-1", "pool", {"min": 1}))
    assert client.run(apps.overrides("ap-1")) == {"pool": {"min": 1}}
    second = replace(RECORD, version=2)
    client.run(apps.publish(second, document=b"two", now=1))
    assert client.run(apps.overrides("ap-1")) == {}
    client.run(apps.override("ap-1", "pool", {"min": 2}))
    client.run(apps.stop(second))
    assert client.run(apps.overrides("ap-1")) == {}


def test_an_ephemeral_app_lives_from_beat_to_beat(client: Client, line: Connection) -> None:
    apps = client.apps
    passing = replace(RECORD, state="ephemeral")
    client.run(apps.publish(passing, document=b"one", now=1))
    client.run(apps.override("ap-1", "pool", {"min": 1}))
    keys = (client.keys.app("ap-1"), client.keys.version("ap-1", 1), client.keys.settings("ap-1"))
    assert client.run(apps.find("main", "shop")) is None
    line.exchange([(b"PEXPIRE", key, 1000) for key in keys])
    assert client.run(apps.beat("ap-1", 1, "ephemeral"))
    assert all(left > 20_000 for left in line.exchange([(b"PTTL", key) for key in keys]))
    client.run(apps.publish(replace(passing, version=2), document=b"two", now=1))
    line.exchange([(b"PEXPIRE", key, 1000) for key in keys])
    assert client.run(apps.beat("ap-1", 2, "ephemeral", older=[1]))
    assert all(left > 20_000 for left in line.exchange([(b"PTTL", key) for key in keys[:2]]))
    line.exchange([(b"DEL", *keys)])
    assert not client.run(apps.beat("ap-1", 1, "ephemeral"))


def lifetimes(client: Client, line: Connection, *digests: str) -> list[bool]:
    """Whether each bundle has a lifetime."""
    left: list[int] = line.exchange([(b"PTTL", client.keys.code(each)) for each in digests])
    assert -2 not in left
    return [each > 0 for each in left]


def test_the_code_of_deployed_versions_stays_until_their_app_is_stopped(
    client: Client, line: Connection
) -> None:
    apps, second = client.apps, replace(RECORD, version=2)
    for digest in ("aa", "bb"):
        client.run(apps.store_code(digest, b"source"))
    client.run(apps.publish(RECORD, document=b"one", now=1, bundle="aa"))
    assert lifetimes(client, line, "aa", "bb") == [False, True]
    client.run(apps.publish(second, document=b"two", now=2, bundle="bb"))
    client.run(apps.store_code("aa", b"source"))
    assert client.run(apps.code("bb")) == b"source"
    assert lifetimes(client, line, "aa", "bb") == [False, False]
    client.run(apps.stop(second))
    assert lifetimes(client, line, "aa", "bb") == [True, True]
    assert not line.exchange([(b"EXISTS", client.keys.code_apps("aa"))])[0]


def test_code_that_two_apps_have_stays_for_the_second(client: Client, line: Connection) -> None:
    apps, other = client.apps, replace(RECORD, app_id="ap-2", name="other")
    client.run(apps.store_code("aa", b"source"))
    for record in (RECORD, other):
        client.run(apps.publish(record, document=b"one", now=1, bundle="aa"))
    client.run(apps.stop(RECORD))
    assert lifetimes(client, line, "aa") == [False]
    client.run(apps.stop(other))
    assert lifetimes(client, line, "aa") == [True]


def test_a_deploy_of_the_same_keeps_code_that_was_there_before(
    client: Client, line: Connection
) -> None:
    apps = client.apps
    client.run(apps.store_code("aa", b"source"))
    client.run(apps.publish(RECORD, document=b"one", now=1))
    assert lifetimes(client, line, "aa") == [True]
    client.run(apps.publish(RECORD, document=b"one", now=1, bundle="aa"))
    assert lifetimes(client, line, "aa") == [False]
    client.run(apps.stop(RECORD))


def test_the_code_of_an_ephemeral_app_has_a_lifetime(client: Client, line: Connection) -> None:
    client.run(client.apps.store_code("aa", b"source"))
    passing = replace(RECORD, state="ephemeral")
    client.run(client.apps.publish(passing, document=b"one", now=1, bundle="aa"))
    assert lifetimes(client, line, "aa") == [True]


def test_a_stopped_app_frees_its_name_whatever_it_was_deployed_as_last(client: Client) -> None:
    """Whoever stops it may know an older version only."""
    apps = client.apps
    client.run(apps.publish(RECORD, document=b"one", now=1))
    client.run(apps.publish(replace(RECORD, version=2), document=b"two", now=2))
    client.run(apps.stop(RECORD))
    assert client.run(apps.find("main", "shop")) is None
    assert client.run(apps.version("ap-1", 2)) is None
    assert client.run(apps.last_stopped("main", "shop")) == "ap-1"


def test_overrides_are_merged_each_with_its_time_and_what_is_odd_goes(
    client: Client, line: Connection
) -> None:
    apps = client.apps
    client.run(apps.publish(RECORD, document=b"one", now=1))
    odd = msgpack.packb({"max": 7, "text": "x", "half": 0.5, "nan": float("nan"), 3: 3, "deep": []})
    line.exchange([(b"HSET", client.keys.settings("ap-1"), "pool", odd)])
    assert client.run(apps.override("ap-1", "pool", {"min": 1})) == {"min": 1, "max": 7}
    client.run(apps.override("ap-1", "pool", {"max": 9}))
    found = client.run(apps.overridden("ap-1", "pool"))
    assert {name: value for name, (value, _) in found.items()} == {"min": 1, "max": 9}
    assert 1_600_000_000_000 < found["min"][1] <= found["max"][1]
    assert client.run(apps.overrides("ap-1")) == {"pool": {"min": 1, "max": 9}}
    line.exchange([(b"HSET", client.keys.settings("ap-1"), "pool", b"\xc1")])
    assert client.run(apps.override("ap-1", "pool", {"min": 2})) == {"min": 2}
    client.run(apps.stop(RECORD))


@pytest.mark.parametrize(
    ("before", "given", "is_kept"),
    [
        ({}, {"min_containers": 3}, False),
        ({"max_containers": 4}, {"min_containers": 3}, True),
        ({"min_containers": 2}, {"max_containers": 1}, False),
        ({"max_containers": 0}, {"min_containers": 30}, True),
        ({"min_containers": 0}, {"max_containers": 1}, True),
        ({"max_containers": 9}, {}, False),
    ],
)
def test_limits_that_would_cross_are_not_kept(
    client: Client, before: dict[str, int], given: dict[str, int], is_kept: bool
) -> None:
    """The function's own are 1 and 2."""
    apps = client.apps
    client.run(apps.publish(RECORD, document=b"one", now=1))
    client.run(apps.override("ap-1", "pool", before, least=1, most=2))
    merged = client.run(apps.override("ap-1", "pool", given, least=1, most=2))
    assert merged == {**before, **given}
    kept = client.run(apps.overrides("ap-1")).get("pool", {})
    assert kept == ({**before, **given} if is_kept else before)
    client.run(apps.stop(RECORD))

"""A call of each script that finds something to do, for tests that run all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qmodal.store.apps import AppRecord
from qmodal.store.entries import Claimed
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.store.history.leftovers import expire_part_command
from qmodal.store.history.statistics import Series
from qmodal.store.keys import GROUP
from qmodal.store.objects.schedules import LastRun
from qmodal.store.objects.secrets import StoredSecret
from qmodal.store.results.items import ROOM, Emission
from qmodal.store.server import accept_command
from qmodal.store.watch.succession import Successions
from qmodal.transport.operation import Command
from qmodal.transport.script import script
from qmodal.wire.ids import shard_of
from qmodal.wire.route import NamedRoute, Route
from tests.model.model import command_of
from tests.support.store.bench import APP, Bench
from tests.support.store.object_cases import OBJECT_CASES

WORKER = "wk-repeat"
REPORT = WorkerReport(
    worker=WORKER, host="h", pid=1, cpus=2.0, memory=1, max_containers=4, python="3", version="1"
)
CONTAINER = ContainerReport(
    container="ta-repeat-1",
    pool="p",
    app=APP,
    function="f",
    label="f",
    number=1,
    state="ready",
    since=1,
)
RECORD = AppRecord(app_id="ap-repeat", name="n", environment="main", state="ephemeral", version=1)


def submit(bench: Bench) -> Command:
    return bench.client.calls.submit_commands(bench.submission(2))[-1]


def submit_each(bench: Bench) -> Command:
    calls = bench.client.calls
    parts = [part for _ in range(3) if (part := calls.mergeable(bench.submission()))]
    return parts[0].merge(parts[0].kind, [part.values for part in parts])


def submit_end(bench: Bench) -> Command:
    call = bench.submit(1, total=None)
    return bench.client.calls.submit_commands(bench.submission(0, call=call, first=1, total=1))[-1]


def settle(bench: Bench) -> Command:
    bench.submit(2)
    return bench.settle_command(*bench.claim(count=2))


def settle_kept(bench: Bench) -> Command:
    """A failed input whose arguments are kept, so that people can run it again."""
    bench.submit(blobs=[(0, b"large")])
    return bench.settle_command(*bench.claim(), has_blob=True, keeps_arguments=True)


def drop_arguments(bench: Bench) -> Command:
    bench.ask(*settle_kept(bench))
    return bench.client.kept_arguments.drop_command(APP, shard_of(bench.pool))


def retry(bench: Bench) -> Command:
    bench.submit()
    return command_of(bench.client.pools.retry(bench.pool, *bench.claim(), delay=0))


def retry_later(bench: Bench) -> Command:
    bench.submit()
    return command_of(bench.client.pools.retry(bench.pool, *bench.claim(), delay=3600))


def promote(bench: Bench) -> Command:
    bench.submit()
    bench.client.run(bench.client.pools.retry(bench.pool, *bench.claim(), delay=0.001))
    keys = bench.client.keys
    while not bench.ask(b"ZCOUNT", keys.delayed(bench.pool), 0, _now(bench)):
        continue
    return command_of(bench.client.pools.promote(bench.pool))


def _now(bench: Bench) -> int:
    seconds, micros = bench.ask(b"TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def release(bench: Bench) -> Command:
    call = bench.submit(2)
    held = [(one.lane, one.entry, call) for one in bench.claim(count=2)]
    return command_of(bench.client.pools.release(bench.pool, held))


def reclaim(bench: Bench) -> Command:
    bench.submit(2)
    bench.claim(count=2)
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=["*"])
    return command_of(op)


def reclaim_lost(bench: Bench) -> Command:
    bench.submit(2)
    bench.claim(count=2)
    pools = bench.client.pools
    return command_of(pools.reclaim(bench.pool, "ta-a-1", reason="x", charged=["*"], budget=1))


def mark(bench: Bench) -> Command:
    bench.submit()
    return bench.client.pools.mark_command(bench.pool, "ta-a-1")


def reclaim_marked(bench: Bench) -> Command:
    bench.ask(*mark(bench))
    return reclaim(bench)


def succeed(bench: Bench) -> Command:
    bench.submit()
    bench.claim()
    return Successions(bench.client.keys).command(bench.pool, 2, "ta-b-1")


def note(bench: Bench) -> Command:
    bench.submit()
    return bench.client.pools.learn_command(bench.pool, 0.5)


def bury(bench: Bench) -> Command:
    bench.submit(2)
    return command_of(bench.client.pools.bury(bench.pool, *bench.claim(), reason="bad"))


def cancel(bench: Bench) -> Command:
    call = bench.submit(2)
    bench.claim()
    return cancel_command(bench, call)


def cancel_command(bench: Bench, call: str) -> Command:
    """Cancel what of the call is in the inputs stream."""
    keys = bench.client.keys
    names = (keys.call(call), keys.outputs(call), keys.pool(bench.pool), keys.inputs(bench.pool))
    return script("cancel").command((*names, keys.moved(call)), (GROUP, 1, call, 0, b"-", b"+"))


def purge(bench: Bench) -> Command:
    bench.submit(2)
    return bench.client.pools.purge_command(bench.pool, 1, till=b"+", reason="over")


def emission(
    bench: Bench, count: int = 3, *, of: Claimed | None = None, **changes: Any
) -> Emission:
    """Items of what `ta-a-1` claims now, or of that."""
    (claimed,) = bench.claim() if of is None else (of,)
    fields: dict[str, Any] = {
        "pool": bench.pool,
        "container": "ta-a-1",
        "lane": claimed.lane,
        "entry": claimed.entry,
        "call": claimed.call,
        "index": int(claimed.fields[5]),
        "first": 0,
        "signed": [b"item %d" % n for n in range(count)],
    }
    return Emission(**(fields | changes))


def emit(bench: Bench) -> Command:
    bench.submit()
    return bench.client.items.emit_command(emission(bench))


def emit_too_much(bench: Bench) -> Command:
    bench.submit()
    return bench.client.items.emit_command(emission(bench, ROOM + 1))


def take(bench: Bench) -> Command:
    call = bench.submit()
    bench.ask(*bench.client.items.emit_command(emission(bench, ROOM + 1)))
    outputs = bench.client.run(bench.client.calls.read(call, b"0", block=0, count=ROOM))
    return bench.client.items.take_command(call, [output.entry for output in outputs])


def open_pool(bench: Bench) -> Command:
    op = bench.client.pools.open(bench.pool, spec=b"new", app=APP, function="f", label="g")
    return command_of(op)


def join(bench: Bench) -> Command:
    return command_of(bench.client.pools.join(bench.pool))


def leave(bench: Bench) -> Command:
    call = bench.submit()
    bench.client.run(bench.client.calls.cancel(call))
    return command_of(bench.client.pools.leave(bench.pool))


def observe(bench: Bench) -> Command:
    return command_of(bench.client.observing.observe([bench.pool]))


def renew(bench: Bench) -> Command:
    bench.client.run(bench.client.fleet.enroll(REPORT))
    reports = {CONTAINER.container: CONTAINER, "ta-repeat-2": None}
    return command_of(bench.client.fleet.renew(WORKER, reports))


def sweep(bench: Bench) -> Command:
    bench.client.run(bench.client.fleet.enroll(REPORT))
    bench.ask(b"ZADD", bench.client.keys.workers, 1, WORKER)
    return command_of(bench.client.fleet.sweep({WORKER: 1.0}))


def lead(bench: Bench) -> Command:
    return command_of(bench.client.fleet.lead("as-1"))


def assign(bench: Bench) -> Command:
    bench.client.run(bench.client.fleet.enroll(REPORT))
    epoch = bench.client.run(bench.client.fleet.lead("as-1"))
    changes = {"ta-repeat-1": "p", "ta-repeat-2": None}
    return command_of(bench.client.fleet.assign(WORKER, changes, epoch=epoch))


def deploy(bench: Bench) -> Command:
    return command_of(bench.client.apps.publish(RECORD, document=b"doc", now=1))


def override(bench: Bench) -> Command:
    apps = bench.client.apps
    bench.client.run(apps.publish(RECORD, document=b"doc", now=1))
    bench.client.run(apps.override(RECORD.app_id, bench.pool, {"min": 1}))
    return apps.override_command(RECORD.app_id, bench.pool, {"min": 2}, least=0, most=None)


def stop(bench: Bench) -> Command:
    apps, keys = bench.client.apps, bench.client.keys
    bench.client.run(apps.store_code("ab", b"source"))
    bench.client.run(apps.publish(RECORD, document=b"doc", now=1))
    bench.ask(b"HSET", keys.app(RECORD.app_id), b"code:1", b"ab")
    bench.ask(b"SADD", keys.code_apps("ab"), RECORD.app_id)
    bench.ask(b"EXPIRE", keys.code_apps("ab"), 60)
    return command_of(apps.stop(RECORD))


def tag(bench: Bench) -> Command:
    bench.client.run(bench.client.apps.publish(RECORD, document=b"doc", now=1))
    return command_of(bench.client.apps.set_tags(RECORD.app_id, {"team": "a"}))


def route(bench: Bench) -> Command:
    client = bench.client
    client.run(client.apps.publish(RECORD, document=b"doc", now=1))
    to = Route(RECORD.app_id, "n", "main", "f", "", RECORD.version)
    named = NamedRoute("deployed", "label", "n-f", to)
    return command_of(
        client.routes.publish(RECORD.app_id, RECORD.version, [named], lifetime=60_000)
    )


def prolong(bench: Bench) -> Command:
    bench.ask(*route(bench))
    return bench.client.apps.prolong_routes_command(RECORD.app_id, 60_000)


def resign(bench: Bench) -> Command:
    bench.client.run(bench.client.fleet.lead("as-1"))
    return command_of(bench.client.fleet.resign("as-1"))


def enroll(bench: Bench) -> Command:
    return command_of(bench.client.fleet.enroll(REPORT))


def cordon(bench: Bench) -> Command:
    bench.client.run(bench.client.fleet.enroll(REPORT))
    return command_of(bench.client.boxes.drain(WORKER))


def describe(bench: Bench) -> Command:
    bench.client.run(bench.client.fleet.enroll(REPORT))
    return command_of(bench.client.boxes.describe(replace(REPORT, cpus=1.0)))


def retire(bench: Bench) -> Command:
    bench.client.run(bench.client.fleet.enroll(REPORT))
    return command_of(bench.client.fleet.retire(WORKER))


def accept(bench: Bench) -> Command:
    bench.ask(b"DEL", bench.client.keys.signing)
    return accept_command(bench.client.keys, "id", "fingerprint")


def count(bench: Bench) -> Command:
    series = Series("main", "shop", "f")
    return command_of(bench.client.statistics.add("ta-1", 1, {series: {"value": 2}}))


def deployed(bench: Bench) -> None:
    """An app with two versions, of one bundle each."""
    apps = bench.client.apps
    for number in (1, 2):
        record = replace(RECORD, version=number)
        bench.client.run(apps.publish(record, document=b"doc", now=1))
    bench.ask(b"HSET", bench.client.keys.app(RECORD.app_id), b"state", b"deployed")
    bench.ask(b"HSET", bench.client.keys.schedules(RECORD.app_id), b"other", b"")
    bench.ask(b"EXPIRE", bench.client.keys.schedules(RECORD.app_id), 60)


def note_run(bench: Bench) -> Command:
    deployed(bench)
    run = LastRun(1000, 1001, "fc-00" + "a" * 20, "cron * * * * * UTC")
    return command_of(bench.client.schedules.note_run(RECORD.app_id, "f", run))


def hold(bench: Bench) -> Command:
    deployed(bench)
    return command_of(bench.client.schedules.hold(RECORD.app_id, "f", is_paused=True))


def expire_part(bench: Bench) -> Command:
    bench.submit()
    keys = bench.client.keys
    part = keys.inputs(bench.pool)  # whatever it is, if its owner is gone
    return expire_part_command(part, keys.call("fc-00" + "gone" * 5))


def disown(bench: Bench) -> Command:
    gone = "00" * 16
    bench.ask(b"ZADD", bench.client.keys.active(0), 1, gone)
    return command_of(bench.client.pools.disown(gone))


def forget(bench: Bench) -> Command:
    deployed(bench)
    bench.client.run(bench.client.apps.store_code("ab", b"source"))
    bench.ask(b"HSET", bench.client.keys.app(RECORD.app_id), b"code:1", b"ab")
    return command_of(bench.client.apps.forget(RECORD.app_id, 1))


def disuse(bench: Bench) -> Command:
    keys = bench.client.keys
    bench.client.run(bench.client.apps.store_code("ab", b"source"))
    bench.ask(b"SADD", keys.code_apps("ab"), b"ap-absent")
    return bench.client.apps.disuse_command("ab", ["ap-absent"])


def keep_secret(bench: Bench) -> Command:
    secret = StoredSecret("main", bench.pool, "st-1", 1, 1, ("A",), b"sealed")
    return bench.client.secrets.keep_command(secret, b"")


CASES: list[Callable[[Bench], Command]] = [
    *(
        submit,
        submit_each,
        submit_end,
        settle,
        settle_kept,
        drop_arguments,
        retry,
        retry_later,
        promote,
        release,
        reclaim,
        reclaim_lost,
    ),
    *(mark, reclaim_marked, succeed, note),
    *(bury, cancel, purge, emit, emit_too_much, take, open_pool, join, leave, observe),
    *(renew, sweep, lead, assign, deploy, override, stop, tag, route, prolong, accept),
    *(resign, enroll, retire, cordon, describe, count, keep_secret),
    *(note_run, hold, expire_part, disown, forget, disuse),
    *OBJECT_CASES,
]

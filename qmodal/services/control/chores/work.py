"""What each chore does: an operation that says what it has done, and that may be repeated, or left in the middle."""

from __future__ import annotations

from collections.abc import Callable

from qmodal.client.client import Client
from qmodal.exception import ConnectionError, Error
from qmodal.store.history.usage import DAY_MS
from qmodal.transport.defects import survive
from qmodal.transport.operation import Op

Work = Callable[[Client, int], Op[str]]
# How long a chore looks through all keys; the next one begins again.
SCAN_SECONDS = 20.0
KEEP_DEAD_MS = 30 * DAY_MS
# Of each app so many versions can be gone back to, and all younger ones than this.
KEEP_VERSIONS, KEEP_VERSION_MS = 100, 90 * DAY_MS


def sweep_results(client: Client, now: int) -> Op[str]:
    """Give a lifetime to what belongs to calls without a record."""
    count = yield from client.leftovers.of_calls(seconds=SCAN_SECONDS)
    return f"{count} leftovers of calls"


def sweep_orphans(client: Client, now: int) -> Op[str]:
    """The same for apps and boxes; and remove arguments of failed inputs whose app has stopped."""
    count = yield from client.leftovers.of_fleet(seconds=SCAN_SECONDS)
    dropped = 0
    for app, shard in (yield from client.leftovers.arguments(seconds=SCAN_SECONDS)):
        record = yield from client.apps.record(app)
        if record is None or record.state == "stopped":
            dropped += yield from client.kept_arguments.drop(app, shard)
    return f"{count} leftovers of apps and boxes, arguments of {dropped} failed inputs"


def trim_dead_letters(client: Client, now: int) -> Op[str]:
    """Remove old dead letters."""
    count = yield from client.dead_letters.trim(now - KEEP_DEAD_MS)
    return f"{count} dead letters removed"


def audit_active_set(client: Client, now: int) -> Op[str]:
    """Have the lists of active pools name exactly those that have streams."""
    active = yield from client.observing.active()
    mended = yield from _mend(client, (yield from client.observing.streamless(active)))
    # Those that have streams and are on no list; whoever submits to one puts it there, too.
    there = set((yield from client.leftovers.pools(seconds=SCAN_SECONDS)))
    missing = there - set((yield from client.observing.active()))
    for pool in missing:
        mended += yield from client.pools.join(pool)
    return f"{len(active)} active pools, {mended} mended"


def _mend(client: Client, pools: list[str]) -> Op[int]:
    count = 0
    for pool in pools:
        is_known = yield from client.pools.join(pool)
        count += is_known or (yield from client.pools.disown(pool))
    return count


def tidy_code(client: Client, now: int) -> Op[str]:
    """Forget old versions, and apps that are gone but still stand with a bundle."""
    pinned = yield from _pinned(client)
    versions = 0
    for app in (yield from client.apps.deployed()).values():
        with survive(f"forgetting versions of {app}", but=(ConnectionError,)):
            versions += yield from _forget_old(client, app, pinned, now)
    disused = 0
    for digest in (yield from client.leftovers.code(seconds=SCAN_SECONDS)):
        disused += yield from client.apps.disuse(digest)
    return f"{versions} versions and {disused} uses of code forgotten"


def _forget_old(client: Client, app: str, pinned: set[tuple[str, int]], now: int) -> Op[int]:
    record = yield from client.apps.record(app)
    if record is None or record.version <= KEEP_VERSIONS:
        return 0
    published = yield from client.apps.published(app, record.version - KEEP_VERSIONS)
    count = 0
    for number, (at, document) in enumerate(published, 1):
        is_old = document is not None and at < now - KEEP_VERSION_MS
        if is_old and (app, number) not in pinned:
            count += yield from client.apps.forget(app, number)
    return count


def _pinned(client: Client) -> Op[set[tuple[str, int]]]:
    """Which versions pools are pinned to."""
    found = set()
    for pool in (yield from client.observing.active()):
        try:
            read = yield from client.specs.pool(pool)
        except Error:  # whoever serves it says so
            continue
        if read is not None and read.value.number:
            found.add((read.value.app_id, read.value.number))
    return found


def roll_up(client: Client, now: int) -> Op[str]:
    """Keep the statistics as they are at the beginning of the day."""
    listed = yield from client.statistics.series()
    counts = yield from client.statistics.read(listed)
    noted = yield from client.usage.note(now // DAY_MS * DAY_MS, counts)
    return f"{len(listed)} functions, {noted} of them for a new day"


WORK: dict[str, Work] = {
    "results": sweep_results,
    "orphans": sweep_orphans,
    "dead-letters": trim_dead_letters,
    "active-set": audit_active_set,
    "code": tidy_code,
    "statistics": roll_up,
}

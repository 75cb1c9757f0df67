"""A worker that has served many apps and pools keeps no more of them than one that has served few."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from qmodal.spec.options import validated_options
from tests.support.boxes import Box, Fleet
from tests.support.servers import no_process_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

# A worker that writes down, when asked by SIGUSR1, how many entries its tables have. Those that are bounded hold one.
COUNTING = """
import gc, json, os, signal
from collections import deque
from qmodal_workers.agent.measuring import start_times, usage
from qmodal_workers.spawn import seen_versions
from qmodal_workers.spawn.bounded_dict import BoundedDict
from qmodal_workers.cli import worker

BoundedDict.__init__.__defaults__ = (1,)
start_times.MOST_POOLS = usage.MOST_POOLS = seen_versions.MOST_APPS = 1
TABLES = (dict, set, list, deque)

def attributes(thing):
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return {**getattr(thing, "__dict__", {}), **{s: getattr(thing, s, None) for s in slots}}

def count(*_):
    sizes = {"descriptors": len(os.listdir("/proc/self/fd"))}
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("qmodal_workers"):
            for name, table in attributes(thing).items():
                if isinstance(table, TABLES):
                    where = f"{type(thing).__name__}.{name}"
                    sizes[where] = sizes.get(where, 0) + len(table)
    with open(os.environ["SIZES"] + ".part", "w") as file:
        json.dump({name: size for name, size in sizes.items() if size}, file)
    os.rename(os.environ["SIZES"] + ".part", os.environ["SIZES"])

signal.signal(signal.SIGUSR1, count)
worker()
"""
# How many more connections to the server there may be; each app would leave as many descriptors.
CONNECTIONS = 3
SOURCE = "def add(x, y): return x + y\n"
THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
def add(x, y): return x + y
"""


def serve_apps(fleet: Fleet, box: Box, folder: Path, count: int) -> None:
    """So many apps that come, serve a call and stop; every second cannot be forked."""
    held = {}
    for number in range(count):
        source, options = (THREADED if number % 2 else SOURCE), validated_options()
        name = f"shop{number}"
        pool = fleet.publish(folder / name, source, {"add": options}, name=name)["add"]
        held[pool] = fleet.assign(box, pool)
    for pool, container in held.items():
        report = fleet.until(box, container, "ready")
        assert fleet.value(fleet.call(pool, 1, number)) == 1 + number
        fleet.take_off(box, container)
        record = fleet.client.run(fleet.client.apps.record(report.app))
        assert record is not None
        fleet.client.run(fleet.client.apps.stop(record))


def test_the_tables_of_a_worker_return_to_their_size(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "sizes"

    def sizes(box: Box) -> dict[str, int]:
        file.unlink(missing_ok=True)
        os.kill(box.process.pid, signal.SIGUSR1)
        wait_until(file.exists, what="it has counted")
        return dict(json.loads(file.read_text()))

    with no_process_left(), fleet.box(program=COUNTING, SIZES=str(file)) as box:
        serve_apps(fleet, box, tmp_path, 2)
        wait_until(lambda: len(box.family()) == 1, what="all but the zygote have ended")
        few = sizes(box)
        serve_apps(fleet, box, tmp_path, 4)
        wait_until(lambda: len(box.family()) == 1, what="all but the zygote have ended again")
        more: dict[str, int] = {}

        def has_returned() -> bool:
            more.clear()
            allowed = few | {"descriptors": few["descriptors"] + CONNECTIONS}
            # A bounded table that was empty the first time may hold its one entry.
            more.update({k: n for k, n in sizes(box).items() if n > allowed.get(k, 1)})
            return not more

        with suppress(AssertionError):
            wait_until(has_returned, what="they have returned")
        assert more == {}

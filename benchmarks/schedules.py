"""`python -m benchmarks.schedules`: control processes that are killed, a server that restarts, and each slot's calls.

Schedules of one second are deployed, and nothing runs their calls: what was submitted stands in the streams of the pools,
with the server's time in each entry's id. So what is judged is what is there, and not what the control plane says.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import qmodal
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.embedded.server import find_binary, server_command
from qmodal.exception import Error
from qmodal.spec.documents import PoolSpec
from qmodal.store.server import ping
from qmodal.wire.ids import derived_call_id, shard_of

APP = "schedules"
AGAIN_SECONDS = 1.0
SECOND_MS = 1000


@dataclass(slots=True)
class Outage:
    """When something was away, in ms since 1970."""

    what: str
    began: int
    ended: int = 0


@dataclass(slots=True)
class Stand:
    """A server that keeps its data, and control processes beside it."""

    folder: Path
    count: int  # of control processes
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    outages: list[Outage] = field(default_factory=list)
    server: subprocess.Popen[bytes] | None = None
    controls: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"unix://{self.folder}/s"

    @property
    def settings(self) -> Settings:
        """How to reach it."""
        return Settings(redis_url=self.url, signing_key=bytes.fromhex(self.key))

    def start_server(self) -> None:
        """Start it, and wait until it answers."""
        command = server_command(
            find_binary(), data=self.folder, socket=self.folder / "s", kept=True
        )
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(command, stdout=log, stderr=log)
        client = Client(self.settings)
        client.run(ping(patience=20))
        client.close()

    def start_control(self) -> subprocess.Popen[bytes]:
        """One more control process."""
        environ = {**os.environ, "QMODAL_REDIS_URL": self.url, "QMODAL_SIGNING_KEY": self.key}
        with (self.folder / "control.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "qmodal", "control"], env=environ, stderr=log
            )

    def start(self) -> None:
        """All of it."""
        self.start_server()
        self.controls = [self.start_control() for _ in range(self.count)]

    def kill_control(self, number: int) -> None:
        """SIGKILL to one; another one takes its place a second later, as under a supervisor."""
        began = now_ms()
        self.controls[number].kill()
        self.controls[number].wait()
        time.sleep(AGAIN_SECONDS)
        self.controls[number] = self.start_control()
        self.outages.append(Outage(f"control {number} killed", began, now_ms()))

    def restart_server(self) -> None:
        """SIGKILL to the server, which comes back with its data."""
        assert self.server is not None
        began = now_ms()
        self.server.kill()
        self.server.wait()
        self.start_server()
        self.outages.append(Outage("server killed", began, now_ms()))

    def stop(self) -> None:
        """End everything."""
        for each in self.controls:
            each.send_signal(signal.SIGTERM)
        for each in self.controls:
            each.wait(30)
        if self.server is not None:
            self.server.kill()
            self.server.wait()


def now_ms() -> int:
    """Now, in ms since 1970."""
    return time.time_ns() // 1_000_000


def deploy(client: Client, count: int) -> str:
    """Deploy so many functions that are due every second; the app's id."""
    app = qmodal.App(APP)
    for number in range(count):
        app.function(name=f"f{number}", serialized=True, schedule=qmodal.Period(seconds=1))(_idle)
    before = clients.use(client)
    try:
        app.deploy()
    finally:
        clients.use(before)
    assert app.app_id is not None
    return app.app_id


def _idle() -> None:
    """What nobody runs."""


@dataclass(slots=True)
class Verdict:
    """What became of the slots; lateness in seconds."""

    slots: int = 0
    calls: int = 0
    twice: int = 0
    strange: int = 0
    missed: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def quantile(self, part: float) -> float:
        """That part of the calls was not later."""
        ordered = sorted(self.late)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def judge(client: Client, app_id: str, count: int, first: int, last: int) -> Verdict:
    """Hold what stands in the pools against the slots from `first` to `last` (ms since 1970)."""
    verdict = Verdict()
    deployed = client.run(client.schedules.look([app_id]))[app_id].deployed
    for number in range(count):
        pool = PoolSpec(app_id=app_id, function=f"f{number}").pool
        expected = {
            derived_call_id(shard_of(pool), pool, f"slot {slot}"): slot
            for slot in range(deployed + SECOND_MS, last + 5 * SECOND_MS, SECOND_MS)
        }
        entries = client.run(client.observing.queue(pool, count=10_000))
        calls = Counter(each.claimed.call for each in entries)
        verdict.strange += sum(call not in expected for call in calls)
        within = {call: slot for call, slot in expected.items() if first <= slot <= last}
        verdict.slots += len(within)
        verdict.calls += sum(call in within for call in calls)
        verdict.twice += sum(times > 1 for times in calls.values())
        verdict.missed += [slot for call, slot in within.items() if call not in calls]
        verdict.late += [
            (each.since - within[each.claimed.call]) / 1000
            for each in entries
            if each.claimed.call in within
        ]
    return verdict


def show(verdict: Verdict, outages: Sequence[Outage]) -> None:
    """The table."""
    away = [each for each in outages if each.what.startswith("server")]
    excused = sum(
        any(each.began - 2 * SECOND_MS <= slot <= each.ended + SECOND_MS for each in away)
        for slot in verdict.missed
    )
    rows = {
        "slots": verdict.slots,
        "calls": verdict.calls,
        "slots with two calls": verdict.twice,
        "calls of no slot": verdict.strange,
        "slots without a call, while the server was away": excused,
        "slots without a call, at other times": len(verdict.missed) - excused,
        "lateness, median": f"{verdict.quantile(0.5):.3f} s",
        "lateness, p95": f"{verdict.quantile(0.95):.3f} s",
        "lateness, p99": f"{verdict.quantile(0.99):.3f} s",
        "lateness, most": f"{max(verdict.late, default=0):.3f} s",
    }
    for each in outages:
        print(f"{each.what} for {(each.ended - each.began) / 1000:.1f} s")
    print("\n| what | |\n| --- | ---: |")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


def harm(stand: Stand, ends: float, every: float, restart_at: float) -> None:
    """Kill a control process every so many seconds, now this one, now that one, and the server once."""
    began, kills, is_restarted = time.monotonic(), 0, restart_at <= 0
    while time.monotonic() < ends:
        elapsed = time.monotonic() - began
        if every and elapsed > (kills + 1) * every:
            stand.kill_control(kills % len(stand.controls))
            kills += 1
        if not is_restarted and elapsed > restart_at:
            is_restarted = True
            stand.restart_server()
        time.sleep(0.05)


def main() -> None:
    """Deploy, harm, judge, print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="qm-sched-") as folder:
        stand = Stand(Path(folder), options.controls)
        stand.start()
        client = Client(stand.settings)
        try:
            app_id = deploy(client, options.schedules)
            time.sleep(options.settle)
            first, ends = now_ms(), time.monotonic() + options.seconds
            harm(stand, ends, options.kill_every, options.restart_at)
            last = now_ms()
            time.sleep(options.settle)
            show(judge(client, app_id, options.schedules, first, last), stand.outages)
            print(f"\n{(Path(folder) / 'control.log').read_text()[-options.log :]}")
        except Error:
            print((Path(folder) / "control.log").read_text())
            raise
        finally:
            client.close()
            stand.stop()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--controls", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--settle", type=float, default=5)
    parser.add_argument("--kill-every", type=float, default=10)
    parser.add_argument("--restart-at", type=float, default=35)
    parser.add_argument("--log", type=int, default=2000, help="characters of the log to print")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Two boxes under faults, and a checker of what became of every input: `python -m tests.fault.chaos --seconds 60`.

Callers keep submitting while containers, boxes, the autoscaler and the server are killed, stopped and restarted,
and while the server loads its file for seconds. The functions write down each start and end. Afterwards every accepted
input must have exactly one outcome, the right one; no body may have run more often than retries and lost containers
allow; two attempts of an input may overlap only where a box stood still. Prints what was done, and exits with 1 for violations.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from qmodal.embedded.server import find_binary

BIN = Path(sys.executable).parent
PROGRAM = """
import asyncio, os, pathlib, time, qmodal
app = qmodal.App("chaos")
LOG = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, kind, number):
    os.write(LOG, f"{what} {kind} {number} {os.getpid()} {time.time():.4f}\\n".encode())

def body(kind, number, seconds):
    note("start", kind, number)
    time.sleep(seconds)
    note("end", kind, number)
    return number * 2

@app.function(max_containers=4)
def quick(number, seconds=0.0):
    return body("quick", number, seconds)

@app.function(max_containers=4)
def slow(number, seconds=0.5):
    return body("slow", number, seconds)

@app.function(max_containers=2, delivery="at_most_once")
def once(number, seconds=0.02):
    return body("once", number, seconds)

@app.function(max_containers=2)
@qmodal.concurrent(max_inputs=20, target_inputs=10)
async def task(number, seconds=0.2):
    note("start", "task", number)
    await asyncio.sleep(seconds)
    note("end", "task", number)
    return number * 2

@app.function(max_containers=2)
@qmodal.concurrent(max_inputs=8)
def thread(number, seconds=0.1):
    return body("thread", number, seconds)

@app.function(max_containers=2)
@qmodal.batched(max_batch_size=8, wait_ms=50)
def batch(number):
    for each in number:
        note("start", "batch", each)
    time.sleep(0.05)
    for each in number:
        note("end", "batch", each)
    return [2 * each for each in number]

@app.cls(max_containers=2)
class Pool:
    key: str = qmodal.parameter()

    @qmodal.method()
    def go(self, number, seconds=0.01):
        return body("pool" + self.key, number, seconds)
"""
# A caller that hears nothing for so long is itself a violation.
PATIENCE = 120.0


@dataclass
class Stack:
    """A server with an append-only file, two workers and an autoscaler, each restarted when it dies."""

    folder: Path
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    is_ending: bool = False

    def environ(self, name: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("QMODAL", "REDIS"))}
        return {
            **kept,
            "QMODAL_REDIS_URL": f"redis://127.0.0.1:{self.port}",
            "QMODAL_SIGNING_KEY": "ab" * 32,
            "QMODAL_HOME": str(self.folder / name),
            "CHAOS_LOG": str(self.folder / "log"),
        }

    def command(self, name: str) -> list[str]:
        if name == "server":
            options = {"port": self.port, "dir": self.folder, "appendonly": "yes", "save": "''"}
            # A pause in every fifth key or command that is loaded: a restart takes some seconds.
            options |= {"key-load-delay": -5, "loading-process-events-interval-bytes": 1024}
            return [
                str(find_binary()),
                *(str(w) for k, v in options.items() for w in (f"--{k}", v)),
            ]
        return [str(BIN / "qmodal"), "autoscaler" if name.startswith("autoscaler") else "worker"]

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                self.command(name),
                env=self.environ(name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def tend(self) -> None:
        """Start again what has died, as an init system would."""
        while not self.is_ending:
            for name, process in list(self.processes.items()):
                if process.poll() is not None and not self.is_ending:
                    self.start(name)
            time.sleep(0.2)

    def signal(self, name: str, number: int) -> None:
        self.processes[name].send_signal(number)

    def paused(self, name: str, seconds: float) -> None:
        self.signal(name, signal.SIGSTOP)
        time.sleep(seconds)
        self.signal(name, signal.SIGCONT)

    def containers(self) -> list[psutil.Process]:
        found = []
        for name in ("worker-a", "worker-b"):
            try:
                below = psutil.Process(self.processes[name].pid).children(recursive=True)
            except psutil.NoSuchProcess:
                continue
            found += [each for each in below if not each.children()]
        return found

    def end(self, *names: str) -> None:
        """Stop these, or the boxes and then their server."""
        self.is_ending = True
        for name in names or sorted(self.processes, key=lambda name: name == "server"):
            process = self.processes.pop(name)
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                print(f"violation: {name} does not end")
                process.kill()


@dataclass
class History:
    """What callers were promised and what they got."""

    outcomes: dict[tuple[str, int], Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    frozen: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Callers:
    """Threads that call in every way until `ends`, a monotonic moment."""

    module: Any
    history: History
    ends: float

    def threads(self, chance: random.Random) -> list[threading.Thread]:
        """Not started yet."""
        functions = {name: getattr(self.module, name) for name in ("quick", "slow", "once")}
        many = {name: getattr(self.module, name) for name in ("task", "thread", "batch")}
        functions |= {f"pool{key}": self.module.Pool(key=key).go for key in ("x", "y")}
        work = [partial(self.one_by_one, kind, call, 0) for kind, call in functions.items()]
        work += [
            partial(self.one_by_one, kind, functions[kind], 200_000) for kind in ("slow", "once")
        ]
        work += [partial(self.one_by_one, kind, call, 0) for kind, call in many.items()]
        quick = self.module.quick
        work += [partial(self.maps, "quick", quick, 1_000_000, 2000)]
        work += [partial(self.maps, "quick", quick, 2_000_000, 37)]
        work += [partial(self.maps, kind, call, 1_000_000, 60) for kind, call in many.items()]
        chance.shuffle(work)
        return [threading.Thread(target=do, daemon=True) for do in work]

    def one_by_one(self, kind: str, function: Any, first: int) -> None:
        """Spawn, and wait for the result."""
        for number in range(first, first + 100_000):
            if time.monotonic() > self.ends:
                return
            call = function.spawn(number)
            try:
                self.history.outcomes[kind, number] = None
                self.history.outcomes[kind, number] = call.get(timeout=PATIENCE)
            except Exception as error:
                self.history.outcomes[kind, number] = error

    def maps(self, kind: str, function: Any, first: int, size: int) -> None:
        """One map after the other; its results have to be in order."""
        while time.monotonic() < self.ends:
            numbers = range(first, first + size)
            results = function.map(numbers, return_exceptions=True)
            self.history.outcomes |= {
                (kind, number): result for number, result in zip(numbers, results, strict=True)
            }
            first += size


def faults(stack: Stack, history: History, ends: float, chance: random.Random) -> None:
    """One fault after the other, a second or three apart."""

    def kill_container() -> None:
        if found := stack.containers():
            chance.choice(found).kill()

    def stop_worker() -> None:
        name, began = chance.choice(["worker-a", "worker-b"]), time.time()
        stack.paused(name, chance.uniform(11, 15))
        history.frozen.append((began - 1, time.time() + 3))

    def freeze_container() -> None:
        if found := stack.containers():
            frozen, began = chance.choice(found), time.time()
            frozen.suspend()
            time.sleep(chance.uniform(0.5, 4))
            frozen.resume()
            history.frozen.append((began - 1, time.time() + 3))

    kinds: dict[str, tuple[int, Callable[[], None]]] = {
        "container killed": (6, kill_container),
        "container frozen": (2, freeze_container),
        "worker stopped beyond its lease": (1, stop_worker),
        "worker killed": (1, lambda: stack.signal(chance.choice(["worker-a", "worker-b"]), 9)),
        "autoscaler killed": (
            1,
            lambda: stack.signal(chance.choice(["autoscaler-a", "autoscaler-b"]), 9),
        ),
        "server killed, then loading": (1, lambda: stack.signal("server", 9)),
        "server stalled": (2, lambda: stack.paused("server", chance.uniform(0.5, 3))),
    }
    names = [name for name, (weight, _) in kinds.items() for _ in range(weight)]
    while time.monotonic() < ends:
        name = chance.choice(names)
        history.faults.append(name)
        try:
            kinds[name][1]()
        except (psutil.Error, ProcessLookupError):
            continue
        time.sleep(chance.uniform(0.5, 3))


def violations(history: History, log: Path) -> list[str]:
    """Everything that was promised and did not hold."""
    found = [
        f"{key}: {outcome!r}"
        for key, outcome in history.outcomes.items()
        # An input of `once` whose container died may be lost; that is what it asked for.
        if outcome != key[1] * 2 and (key[0], type(outcome).__name__) != ("once", "WorkerLost")
    ]
    starts = collections.Counter[tuple[str, str]]()
    running: dict[tuple[str, str], str] = {}
    for line in log.read_text().splitlines():
        what, kind, number, pid, moment = line.split()
        before = running.pop((kind, number), None)
        if what == "start":
            starts[kind, number] += 1
            running[kind, number] = pid
            if before and psutil.pid_exists(int(before)) and not excused(history, float(moment)):
                found.append(f"{kind} {number} starts in {pid} at {moment} and runs in {before}")
    most = {"once": 1}
    found += [f"{key}: {n} starts" for key, n in starts.items() if n > most.get(key[0], 3)]
    return found


def excused(history: History, moment: float) -> bool:
    return any(began <= moment <= ended for began, ended in history.frozen)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fill(url: str) -> None:
    """Keys that make a restart take its time."""
    import redis

    with redis.Redis.from_url(url) as plain:
        for _ in range(100):
            try:
                plain.ping()
                break
            except redis.RedisError:
                time.sleep(0.1)
        with plain.pipeline(transaction=False) as pipe:
            for number in range(15_000):
                pipe.set(f"filler:{number}", b"x" * 100)
            pipe.execute()


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    given = options.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        stack = Stack(Path(name), free_port())
        stack.start("server")
        fill(f"redis://127.0.0.1:{stack.port}")
        for each in ("worker-a", "worker-b", "autoscaler-a", "autoscaler-b"):
            stack.start(each)
        threading.Thread(target=stack.tend, daemon=True).start()
        try:
            return run(stack, History(), given.seconds, given.seed, chance)
        finally:
            stack.end()


def run(stack: Stack, history: History, seconds: float, seed: int, chance: random.Random) -> int:
    """Deploy, call and harm for so long, then wait for every answer and judge."""
    os.environ.update(stack.environ("callers"))
    from qmodal.source.loader import load_file

    program = stack.folder / "program.py"
    program.write_text(PROGRAM)
    module = load_file(program)
    module.app.deploy(name="chaos")
    ends = time.monotonic() + seconds
    threads = Callers(module, history, ends).threads(chance)
    for thread in threads:
        thread.start()
    faults(stack, history, ends, chance)
    for thread in threads:
        thread.join(PATIENCE)
    stuck = sum(thread.is_alive() for thread in threads)
    found = violations(history, stack.folder / "log")
    found += [f"{stuck} callers never came back"] * bool(stuck)
    lost = sum(type(outcome).__name__ == "WorkerLost" for outcome in history.outcomes.values())
    print(
        f"seed {seed}: {len(history.outcomes)} inputs, {lost} of `once` lost with their containers"
    )
    print(dict(collections.Counter(history.faults)))
    print("\n".join(f"violation: {each}" for each in found[:40]))
    if found:
        for each in sorted(stack.folder.glob("*.log")):
            print(f"-- {each.name}", each.read_text(errors="replace")[-1500:], sep="\n")
    print(f"{len(found)} violations")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())

"""Many parameter sets and ephemeral apps on one stack, and what is left of them: `python -m tests.fault.soak`.

A class is called with `--pools` sets of parameters, then `--apps` apps are opened and closed, each a half at a
time. Whenever everything is quiet again, keys and tables are counted and processes weighed. Prints what there was
before, after the first half and after the second. Exits with 1 if a key has no lifetime, or if a table of ours has
grown in both halves by more than a tenth of what it could. Some tables hold 4096 at most: that shows with 10 000.
"""

from __future__ import annotations

import argparse
import collections
import gc
import itertools
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import redis

from qmodal.embedded.server import find_binary
from tests.fault.chaos import Stack, free_port
from tests.support.servers import leftovers
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PREFIX = "qmodal"
PROGRAM = """
import qmodal

lasting = qmodal.App("lasting")
passing = qmodal.App("passing")

@lasting.cls(max_containers=1, scaledown_window=2)
class Pool:
    key: int = qmodal.parameter()

    @qmodal.method()
    def go(self, number):
        print(self.key, flush=True)
        return self.key * number

@passing.function(scaledown_window=2)
def twice(number):
    print(number, flush=True)
    return number * 2
"""
# Both processes write what they hold when they are asked to.
WATCHED = (
    "from tests.fault.soak import answer; answer({path!r}); from {module} import {name}; {name}()"
)
PROGRAMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "autoscaler": ("qmodal_autoscaler.cli", "autoscaler", ()),
    "worker": ("qmodal_workers.cli", "worker", ("--max-containers", "48")),
}
# How many apps are opened for each that is called, too: a call starts a container.
APPS_PER_CALL = 10
WARM_UP = 100
Census = dict[str, int]


def census() -> Census:
    """How many objects of each type there are, and how long the longest table is of each name."""
    gc.collect()
    found = collections.Counter[str]()
    for each in gc.get_objects():
        kind = type(each)
        name = f"{kind.__module__}.{kind.__qualname__}"
        found[f"objects {name}"] += 1
        if name.startswith("qmodal"):
            note(found, name, attributes(each))
    for name, module in list(sys.modules.items()):
        if name.startswith("qmodal"):
            note(found, name, list(vars(module).items()))
    return dict(found)


def attributes(thing: object) -> Iterator[tuple[str, object]]:
    """Those of an object, from its slots and its dict."""
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            member = vars(kind).get(name)
            if member is not None and hasattr(member, "__get__"):
                try:
                    yield name, member.__get__(thing, kind)
                except AttributeError:
                    continue
    yield from list(getattr(thing, "__dict__", {}).items())


def note(
    found: collections.Counter[str], owner: str, members: Iterable[tuple[str, object]]
) -> None:
    """The length of each table among the members, if it is the longest of its name."""
    for name, value in members:
        size = None
        if isinstance(value, (dict, list, set, frozenset, collections.deque)):
            size = len(value)
        elif callable(getattr(value, "cache_info", None)):
            size = value.cache_info().currsize  # type: ignore[attr-defined]
        if size:
            key = f"table {owner}.{name}"
            found[key] = max(found[key], size)


def answer(path: str) -> None:
    """Write the census of this process whenever it gets SIGUSR1."""

    def write(*_: object) -> None:
        Path(path + ".part").write_text(json.dumps(census()))
        Path(path + ".part").rename(path)

    signal.signal(signal.SIGUSR1, write)


class Soaked(Stack):
    """A server that keeps nothing, an autoscaler and a worker."""

    def command(self, name: str) -> list[str]:
        """What to start."""
        if name == "server":
            server = str(find_binary())
            return [server, "--port", str(self.port), "--save", "", "--dir", str(self.folder)]
        module, function, options = PROGRAMS[name]
        code = WATCHED.format(path=str(self.folder / f"{name}.json"), module=module, name=function)
        return [sys.executable, "-P", "-c", code, *options]

    def environ(self, name: str) -> dict[str, str]:
        """Where all find each other, and this module."""
        return {**super().environ(name), "PYTHONPATH": str(ROOT)}

    def census(self, name: str) -> Census:
        """What the process holds."""
        path = self.folder / f"{name}.json"
        path.unlink(missing_ok=True)
        self.signal(name, signal.SIGUSR1)
        wait_until(path.exists, what=f"the census of the {name}", seconds=60)
        found: Census = json.loads(path.read_text())
        return found

    def below(self, name: str) -> list[psutil.Process]:
        """All that the process has started."""
        return psutil.Process(self.processes[name].pid).children(recursive=True)


class Client:
    """A process that opens apps, or calls; it does what a line says and answers with one."""

    def __init__(self, stack: Soaked, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.fault.soak", "--client"],
            env=stack.environ(name),
            cwd=stack.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *request: object) -> Any:
        """Its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def serve() -> None:
    """Be a client: read requests, and do them one after another."""
    from qmodal.source.loader import load_file

    module = load_file(Path("program.py"))

    def pools(first: int, last: int, callers: int) -> None:
        def call(part: int) -> None:
            for key in range(first + part, last, callers):
                assert module.Pool(key=key).go.remote(2) == key * 2

        with ThreadPoolExecutor(callers) as threads:
            list(threads.map(call, range(callers)))

    does: dict[str, Callable[..., Any]] = {
        "deploy": lambda: module.lasting.deploy() and None,
        "stop": lambda: module.lasting.stop(),
        "pools": pools,
        "apps": lambda first, last: open_apps(module, range(first, last)),
        "census": census,
    }
    for line in sys.stdin:
        name, *given = json.loads(line)
        print(json.dumps(does[name](*given)), flush=True)


def open_apps(module: Any, numbers: range) -> None:
    """Open and close an app for each number: in turns the program's own, and one made for it."""
    import qmodal

    for number in numbers:
        app, function = module.passing, module.twice
        if number % 2:
            app = qmodal.App(f"passing-{number}")
            function = app.function(serialized=True, scaledown_window=2)(lambda number: number * 2)
        with app.run():
            if number % APPS_PER_CALL < 2:
                assert function.remote(number) == number * 2


def kind_of(key: str) -> str:
    """A key's name without what differs between those of one kind."""
    name = re.sub(r"^[^}]*\}:", "", key)
    name = re.sub(r"\b(pool|wake|call|app|worker|code|told):[^:]+", r"\1:*", name)
    name = re.sub(r"^(stopped|stats|counted):.*", r"\1:*", name)
    return re.sub(r":\d+$", ":#", name)


def weights(stack: Soaked, plain: redis.Redis, clients: list[Client]) -> Census:
    """KiB of memory, descriptors and processes of everybody."""
    found: Census = {"server used": plain.info("memory")["used_memory"] // 1024}
    processes = {name: psutil.Process(each.pid) for name, each in stack.processes.items()}
    processes |= {f"client-{n}": psutil.Process(c.process.pid) for n, c in enumerate(clients)}
    for name, process in processes.items():
        found[f"{name} KiB"] = process.memory_full_info().uss // 1024
        found[f"{name} descriptors"] = process.num_fds()
        found[f"{name} threads"] = process.num_threads()
    below = stack.below("worker")
    found["below the worker"] = len(below)
    found["below the worker KiB"] = sum(each.memory_full_info().uss for each in below) // 1024
    return found


def keys(plain: redis.Redis) -> Census:
    """How many keys of each kind there are."""
    found = collections.Counter(kind_of(key.decode()) for key in plain.scan_iter(count=1000))
    return {f"keys {kind}": number for kind, number in found.items()}


def quiet(stack: Soaked, plain: redis.Redis) -> None:
    """Wait until no pool is active and every container and template of ended apps is gone."""

    def is_quiet() -> bool:
        return not list(plain.scan_iter("*:active", count=1000))

    wait_until(is_quiet, what="no pool that is active", seconds=120)
    sizes = collections.deque[int](maxlen=20)

    def is_steady() -> bool:
        time.sleep(0.5)
        sizes.append(len(stack.below("worker")))
        return len(sizes) == sizes.maxlen and len(set(sizes)) == 1

    wait_until(is_steady, what="as many processes as before", seconds=300)


def measure(stack: Soaked, plain: redis.Redis, clients: list[Client]) -> Census:
    """All that can be counted, once all is quiet."""
    quiet(stack, plain)
    found = keys(plain) | weights(stack, plain, clients)
    tables = {name: stack.census(name) for name in ("worker", "autoscaler")}
    tables |= {f"client-{number}": each.ask("census") for number, each in enumerate(clients)}
    for owner, counted in tables.items():
        found |= {f"{owner}: {name}": size for name, size in counted.items()}
    return found


def together(requests: list[tuple[Client, tuple[object, ...]]]) -> None:
    """Ask several clients at the same time."""
    with ThreadPoolExecutor(len(requests)) as threads:
        for _ in threads.map(lambda each: each[0].ask(*each[1]), requests):
            pass


def growing(phases: list[Census], least: int) -> Iterator[tuple[str, list[int]]]:
    """What became more in both halves, by at least so much."""
    for name in sorted(set().union(*phases)):
        sizes = [phase.get(name, 0) for phase in phases]
        if all(after - before >= least for before, after in itertools.pairwise(sizes)):
            yield name, sizes


def soak(stack: Soaked, plain: redis.Redis, pools: int, apps: int, callers: int) -> bool:
    """Both parts; whether nothing was left."""
    clients = [Client(stack, f"client-{number}") for number in range(4)]
    clients[0].ask("deploy")

    def open_pools(first: int, number: int) -> None:
        clients[0].ask("pools", first, first + number, callers)

    def open_apps_of(first: int, number: int) -> None:
        share = number // 3
        together(
            [
                (c, ("apps", first + n * share, first + (n + 1) * share))
                for n, c in enumerate(clients[1:])
            ]
        )

    is_good = True
    for what, number, do in (("parameter sets", pools, open_pools), ("apps", apps, open_apps_of)):
        do(0, WARM_UP)
        phases = [measure(stack, plain, clients)]
        for half in range(2):
            began = time.monotonic()
            do(WARM_UP + half * (number // 2), number // 2)
            took = time.monotonic() - began
            print(
                f"{number // 2} {what}: {took:.0f} s, {number / 2 / took:.1f} each second",
                flush=True,
            )
            phases.append(measure(stack, plain, clients))
        is_good &= report(what, number, phases)
    clients[0].ask("stop")
    quiet(stack, plain)
    stack.end("worker", "autoscaler")
    return nothing_stays(plain) and is_good


def report(what: str, number: int, phases: list[Census]) -> bool:
    """Print what has grown; whether no table of ours is among that."""
    print(f"-- {number} {what}")
    grown = dict(growing(phases, number // 20))
    counted = {name for name in phases[-1] if not re.search(r": (objects|table) ", name)}
    for name in sorted(counted | grown.keys()):
        sizes = [phase.get(name, 0) for phase in phases]
        print("grew: " * (name in grown) + f"{name}: {sizes}", flush=True)
    return not any(": table qmodal" in name for name in grown)


def nothing_stays(plain: redis.Redis) -> bool:
    """Whether every key expires; what the server needs when they have."""
    left = leftovers(plain, PREFIX)
    print(f"{len(left)} keys without a lifetime {left[:10]}")
    for name in list(plain.scan_iter(count=1000)):
        if plain.pttl(name) > 0:
            plain.unlink(name)
    print(f"when all has expired: {keys(plain)}, {plain.info('memory')['used_memory'] // 1024} KiB")
    return not left


def main() -> int:
    """Start a stack, soak it, and end it."""
    options = argparse.ArgumentParser()
    options.add_argument("--pools", type=int, default=300)
    options.add_argument("--apps", type=int, default=300)
    options.add_argument("--callers", type=int, default=48)
    options.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.client:
        serve()
        return 0
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        stack = Soaked(Path(name), free_port())
        (stack.folder / "program.py").write_text(PROGRAM)
        for each in ("server", "autoscaler", "worker"):
            stack.start(each)
        threading.Thread(target=stack.tend, daemon=True).start()
        plain = redis.Redis(port=stack.port)
        wait_until(lambda: plain.zcard(f"{PREFIX}:{{fleet}}:workers"), what="a worker", seconds=30)
        try:
            return not soak(stack, plain, given.pools, given.apps, given.callers)
        finally:
            stack.end()


if __name__ == "__main__":
    raise SystemExit(main())

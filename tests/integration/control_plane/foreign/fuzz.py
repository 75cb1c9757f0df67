"""Rubbish in any key while a whole stack works: `python -m tests.integration.control_plane.foreign.fuzz --seconds 600 --seed 7`.

Each step writes one thing into one key, while a call is under way. With that in place all that programs do has to end: with its result, or
with an `Error` of ours. Then the key is as it was, if it is one that lasts, and all has to give its result again: no process has ended.
Prints each violation and exits with 1 if there is one. Steps follow from the seed; what the keys hold at that time does not.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError as LateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import redis

import qmodal
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.embedded.stack import CHILDREN, Stack, start_private
from qmodal.exception import Error
from qmodal.runner.run import ensure_server
from qmodal.source.loader import load_file
from tests.support.store.garbage import VALUES, WRITES, Write

PROGRAM = Path(__file__).with_name("attacked.py")
# With rubbish in place everything ends within that time, and everything works again so long after it is gone.
PATIENCE, RECOVERY, SLOW = 30.0, 40.0, 3.0
# A process of the stack that has nothing to do uses less of a processor than that.
IDLE_SHARE = 0.5
# Of these keys an object or a call is made anew by each step; what they held before would not fit any more.
PASSING = (
    "call",
    "replies",
    "inbox",
    "told",
    "wrote",
    "wake",
    "counted",
    "gateway",
    "ticker",
    "rq",
)
_IDS = re.compile(
    r"(?<=[:/{])(?:s\d\d|(?:[a-z]{2}-)?[A-Za-z0-9_]{10,}[^:]*|main/[^:]*|attacked[^:]*|(?:slot|chore)-[^:]*|ct-[^:]*)(?=[:/}]|$)"
)


# Members of a flood; more than that takes the server, and not us, too long for a test.
FLOOD, ENTRIES = 20_000, 200


def _flood(plain: redis.Redis, key: str) -> None:
    with plain.pipeline(transaction=True) as pipeline:
        match plain.type(key):
            case b"hash":
                pipeline.hset(
                    key, mapping={f"flood{n}": VALUES["another shape"] for n in range(FLOOD)}
                )
            case b"zset":
                pipeline.zadd(key, {f"flood{n}": n * 1e9 for n in range(FLOOD)})
            case b"set":
                pipeline.sadd(key, *(f"flood{n}" for n in range(FLOOD)))
            case b"list":
                pipeline.rpush(key, *(f"flood{n}" for n in range(FLOOD)))
            case b"stream":
                for n in range(ENTRIES):
                    pipeline.xadd(key, {"e": f"flood{n}"})
            case _:
                pipeline.set(key, b"x" * 10_000_000)
        pipeline.execute()


def _for_ever(plain: redis.Redis, key: str) -> None:
    plain.persist(key)


ATTACKS: dict[str, Write] = {**WRITES, "a flood": _flood, "no lifetime": _for_ever}


# What the calls of schedules depend on: then one has to be made once more.
_OF_SCHEDULES = re.compile(r"rq|ticker|schedules")


def kind_of(key: str) -> str:
    """The key without ids: keys of one kind hold the same."""
    return _IDS.sub("*", key).partition(":")[2]


@dataclass
class Attack:
    """A stack that works, what was done to it, and what should not have followed."""

    stack: Stack
    client: Client
    program: Any
    plain: redis.Redis
    random: random.Random
    violations: list[str] = field(default_factory=list)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16))
    page: str = ""
    slowest: tuple[float, str] = (0.0, "")
    is_talking: bool = False
    only: re.Pattern[str] = re.compile("")

    def begin(self) -> None:
        """Everything has worked once."""
        self.dict = qmodal.Dict.from_name("attacked", create_if_missing=True)
        self.queue = qmodal.Queue.from_name("attacked", create_if_missing=True)
        self.page = self.program.page.get_web_url() or ""
        self.recover("the beginning")
        self.processes = self.long_lived()

    def long_lived(self) -> dict[int, str]:
        """The processes of the stack that serve everybody, by what they are."""
        found = {}
        for each in psutil.Process(self.stack.supervisor).children():
            found[each.pid] = " ".join(each.cmdline())[-40:]
        return found

    def works(self) -> dict[str, Callable[[], bool]]:
        """What programs do, and whether it was right."""
        number = self.random.randrange(1000)
        program = self.program
        return {
            "a call": lambda: program.double.remote(number) == number * 2,
            "a map": lambda: list(program.double.map(range(20))) == [2 * n for n in range(20)],
            "a generator": lambda: list(program.count.remote_gen(3)) == [0, 1, 2],
            "a dictionary": partial(self._keeps, number),
            "a queue": partial(self._passes, number),
            "a page": self._shows,
        }

    def _keeps(self, number: int) -> bool:
        self.dict["key"] = number
        return bool(self.dict["key"] == number)

    def _passes(self, number: int) -> bool:
        self.queue.put(number)
        return bool(self.queue.get(timeout=5) is not None)

    def _shows(self) -> bool:
        try:
            with urllib.request.urlopen(self.page, timeout=PATIENCE) as reply:
                return bool(reply.read() == b"here")
        except urllib.error.HTTPError as error:
            raise Error(f"HTTP {error.code}") from None

    def attempt(self, *, since: float) -> list[str]:
        """Do everything at once; what did not end, or ended as it should not. What was wrong is not among that."""
        running = {self.threads.submit(work): name for name, work in self.works().items()}
        return [odd for one, name in running.items() if (odd := self._odd(one, name, since))]

    def _odd(self, one: Future[bool], name: str, since: float) -> str:
        try:
            one.exception(max(0.1, since + PATIENCE - time.monotonic()))
        except LateError:
            return f"{name} does not end"
        error = one.exception()
        if error is None or isinstance(error, Error | KeyError | OSError):
            return ""
        return f"{name}: {''.join(traceback.format_exception(error))}"

    def recover(self, where: str) -> None:
        """Everything gives its result within RECOVERY seconds."""
        ends = time.monotonic() + RECOVERY
        for name in self.works():
            last: object = ""
            while last is not None:
                last = self._fault(self.threads.submit(self.works()[name]), ends)
                if last is not None and time.monotonic() > ends:
                    self.violations.append(f"{where}: {name} does not work again ({last})")
                    break

    @staticmethod
    def _fault(one: Future[bool], ends: float) -> object:
        """None if it gives its result."""
        try:
            error = one.exception(max(0.1, ends - time.monotonic()))
        except LateError:
            return "it does not end"
        if error is None and one.result():
            return None
        time.sleep(0.02)
        return repr(error) if error else "a wrong result"

    def candidates(self) -> dict[str, list[str]]:
        """The keys that there are, by kind."""
        found: dict[str, list[str]] = {}
        for raw in self.plain.scan_iter("*", count=1000):
            key = raw.decode(errors="replace")
            found.setdefault(kind_of(key), []).append(key)
        return found

    def choose(self) -> tuple[str, str, str] | None:
        """The kind of a key, what is written there and the key: what was done least so far; None if there is no such key."""
        known = {kind: keys for kind, keys in self.candidates().items() if self.only.search(kind)}
        pairs = [(kind, what) for kind in sorted(known) for what in ATTACKS]
        self.random.shuffle(pairs)
        of_kind: Counter[str] = Counter()
        for (kind, _), times in self.done.items():
            of_kind[kind] += times
        chosen = min(pairs, key=lambda pair: (of_kind[pair[0]], self.done[pair]), default=None)
        if chosen is None:
            return None
        self.done[chosen] += 1
        return *chosen, self.random.choice(sorted(known[chosen[0]]))

    def step(self) -> None:
        """Write one thing while a call is under way, and look what follows."""
        under_way = self.program.nap.spawn(7)
        chosen = self.choose()
        if chosen is None:
            return
        kind, what, key = chosen
        where, began = f"{what} in {key}", time.monotonic()
        with self._spoiled(key, kind, what):
            odd = self.attempt(since=began)
            one = self.threads.submit(under_way.get, timeout=PATIENCE)
            odd.append(self._odd(one, "the call under way", began))
        self.violations += [f"{where}: {each}" for each in odd if each]
        self.recover(where)
        if _OF_SCHEDULES.search(kind):
            self.await_slot(where)
        for pid, name in self.processes.items():
            if not psutil.pid_exists(pid):
                self.violations.append(f"{where}: {name} has ended")
                self.processes = self.long_lived()
        took = time.monotonic() - began
        self.slowest = max(self.slowest, (took, where))
        if self.is_talking and took > SLOW:
            print(f"{took:.1f} s: {where}", flush=True)

    @contextmanager
    def _spoiled(self, key: str, kind: str, what: str) -> Iterator[None]:
        is_lasting = not kind.lstrip("{}*flrqet:").startswith(PASSING) and "rq" not in kind
        before: Any = self.plain.dump(key)
        left: Any = self.plain.pttl(key)
        with suppress(redis.ResponseError):  # it went meanwhile, or has another type by now
            ATTACKS[what](self.plain, key)
        try:
            yield
        finally:
            if is_lasting and before is not None:
                self.plain.restore(key, max(0, left), before, replace=True)

    def await_slot(self, where: str) -> None:
        """The next slot of the schedule becomes a call."""
        noted, ends = self._runs(), time.monotonic() + RECOVERY
        while self._runs() == noted:
            if time.monotonic() > ends:
                self.violations.append(f"{where}: schedules have stopped")
                return
            time.sleep(0.05)

    def rest(self) -> None:
        """With nothing to do, nothing is done again and again; and schedules go on."""
        self.await_slot("the end")
        processes = [psutil.Process(pid) for pid in self.long_lived()]
        before = {each.pid: sum(each.cpu_times()[:2]) for each in processes}
        time.sleep(2.5)
        for each in processes:
            share = (sum(each.cpu_times()[:2]) - before[each.pid]) / 2.5
            if share > IDLE_SHARE:
                self.violations.append(
                    f"{' '.join(each.cmdline())} uses {share:.0%} of a processor"
                )

    def _runs(self) -> object:
        return self.plain.hgetall(self.client.keys.schedules(self.program.app.app_id))


@contextmanager
def attack(seed: int, home: Path) -> Iterator[Attack]:
    """A stack of its own, with the program deployed."""
    settings = Settings.from_environ({"QMODAL_HOME": str(home)})
    with start_private(settings, children=CHILDREN) as stack:
        program: Any = load_file(PROGRAM)
        with (
            ensure_server(stack.settings, stack) as client,
            redis.Redis.from_url(stack.url) as plain,
        ):
            program.app.deploy()
            stack.start_gateway()
            this = Attack(stack, client, program, plain, random.Random(seed))
            try:
                this.begin()
                yield this
            finally:
                this.threads.shutdown(wait=False, cancel_futures=True)
                program.app._registry.attach(None)


def main() -> int:
    """Attack for some time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--only", default="", help="a pattern of the kinds of keys")
    given = parser.parse_args()
    print(f"seed {given.seed}")
    ends = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as home, attack(given.seed, Path(home)) as this:
        said, this.is_talking, this.only = 0, True, re.compile(given.only)
        while time.monotonic() < ends:
            this.step()
            for each in this.violations[said:]:
                print(f"violation: {each}", flush=True)
            said = len(this.violations)
        this.rest()
        print(
            *this.violations[said:],
            f"{sum(this.done.values())} writes of {len(this.done)} kinds",
            sep="\n",
        )
        print(*sorted({kind for kind, _ in this.done}), sep=", ")
    return bool(this.violations)


if __name__ == "__main__":
    sys.exit(main())

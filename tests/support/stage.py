"""An autoscaler at work before a painted fleet: workers that only say what they are told to say."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.runner.publish import document_of
from qmodal.spec.documents import FunctionSpec, MethodSpec, PoolSpec, Version
from qmodal.spec.options import FunctionOptions, validated_options
from qmodal.store.apps import AppRecord, AppState
from qmodal.store.entries import Claimed, Settled, Submission
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.transport.connection import Address, Connection
from qmodal.wire.envelope import PYTHON
from qmodal.wire.ids import new_app_id, new_call_id, new_worker_id, shard_of
from qmodal_autoscaler.process import NOTHING, AutoscalerOptions, autoscale
from tests.support.waiting import wait_until

T = TypeVar("T")


@contextmanager
def autoscaling(settings: Settings, options: AutoscalerOptions = NOTHING) -> Iterator[None]:
    """An autoscaler in a thread of this process."""
    began: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        began.append((asyncio.get_running_loop(), stop))
        await autoscale(Client(settings), stop, options)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield
    finally:
        wait_until(lambda: began, what="an event loop")
        loop, stop = began[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive(), "the autoscaler does not stop"


@dataclass(slots=True)
class PaintedWorker:
    """A worker whose containers are ready as soon as they are assigned, or as `fate` says.

    `offers`: what else its report says of the box.
    """

    client: Client
    max_containers: int = 16
    ahead: int = 0
    offers: dict[str, Any] = field(default_factory=dict)
    fate: Callable[[ContainerReport], ContainerReport] = lambda report: replace(
        report, state="ready", start_ms=1
    )
    name: str = field(default_factory=new_worker_id)
    number: int = 1
    is_deaf: bool = False
    roster: dict[str, ContainerReport] = field(default_factory=dict)
    line: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.line = Connection(Address(self.client.settings.redis_url or ""))
        self.client.run(self.client.fleet.enroll(self.described()))

    def described(self) -> WorkerReport:
        """The box as it reports itself."""
        about: dict[str, Any] = {"cpus": 1.0, "memory": 1} | self.offers
        return WorkerReport(
            worker=self.name,
            host="painted",
            pid=1,
            max_containers=self.max_containers,
            python=PYTHON,
            version="0",
            ahead=self.ahead,
            **about,
        )

    def offer(self, **offers: Any) -> None:
        """The box offers something else from now on, and says so."""
        self.offers |= offers
        assert self.client.run(self.client.boxes.describe(self.described()))

    def assigned(self, pool: str = "") -> list[str]:
        """The containers it should run."""
        found = self.client.run(self.client.fleet.assigned([self.name])).get(self.name, {})
        return sorted(name for name, its in found.items() if not pool or its == pool)

    def act(self) -> None:
        """Make what runs equal to what was assigned, and report it."""
        listed = self.client.run(self.client.fleet.assigned([self.name]))
        if self.name not in listed:
            return
        found = listed[self.name]
        changed: dict[str, ContainerReport | None] = {}
        for name in self.roster.keys() - found.keys():
            pool = self.roster.pop(name).pool
            self.client.run(self.client.pools.reclaim(pool, name, reason="left", charged=()))
            changed[name] = None
        for name in self._next(found):
            changed[name] = self.roster[name] = self.fate(self._starting(name, found[name]))
        self.report(changed)

    def _next(self, found: dict[str, str]) -> list[str]:
        """What it starts now: a box that takes assignments ahead starts no more than it has room for."""
        missing = [] if self.is_deaf else sorted(found.keys() - self.roster.keys())
        living = sum(not each.is_over for each in self.roster.values())
        return missing[: max(0, self.max_containers - living)] if self.ahead else missing

    def report(self, changed: dict[str, ContainerReport | None]) -> None:
        """Renew the lease with these reports, and have the autoscaler look."""
        self.client.run(self.client.fleet.renew(self.name, changed))
        for report in changed.values():
            self.client.run(self.client.fleet.wake(report.pool if report else ""))

    def becomes(self, container: str, **changes: Any) -> None:
        """The container's report changes."""
        self.roster[container] = replace(self.roster[container], since=now_ms(), **changes)
        self.report({container: self.roster[container]})

    def claim(self, container: str, count: int = 1) -> list[Claimed]:
        """The container claims, without waiting."""
        pool = self.roster[container].pool
        command = self.client.pools.claim_command(pool, container, count=count, block=None)
        return self.client.pools.parse_claim(pool, self.line.exchange([command])[0])

    def settle(self, pool: str, claimed: list[Claimed]) -> None:
        """The inputs end well."""
        attempts = [
            Settled(one.lane, one.entry, one.call, int(one.fields[5]), b"done", has_blob=False)
            for one in claimed
        ]
        self.line.exchange([self.client.pools.settle_command(pool, attempts)])

    def retire(self) -> None:
        """A clean stop."""
        self.client.run(self.client.fleet.retire(self.name))
        self.line.close()

    def _starting(self, name: str, pool: str) -> ContainerReport:
        return ContainerReport(
            container=name,
            pool=pool,
            app="ap",
            function="f",
            label="f",
            number=self.number,
            state="starting",
            since=now_ms(),
        )


@dataclass(slots=True)
class Stage:
    """An app, its callers and its painted workers."""

    client: Client
    state: AppState = "deployed"
    app_id: str = field(default_factory=new_app_id)
    name: str = ""  # its id, if it has none
    environment: str = "main"
    number: int = 0
    pools: dict[str, str] = field(default_factory=dict)
    workers: list[PaintedWorker] = field(default_factory=list)

    def publish(self, **functions: FunctionOptions) -> None:
        """The next version of the app."""
        self.number += 1
        version = Version(
            app_id=self.app_id,
            name=self.name or self.app_id,
            environment=self.environment,
            number=self.number,
            is_ephemeral=self.state != "deployed",
            python=PYTHON,
            bundle=None,
            main=None,
            functions={
                name: FunctionSpec(
                    tag=name,
                    module="m",
                    qualname=name,
                    is_class=False,
                    methods={"": MethodSpec()},
                    options=options.to_plain(),
                    parameters=(),
                )
                for name, options in functions.items()
            },
        )
        document = document_of(self.client, version)
        apps = self.client.apps
        assert self.client.run(apps.publish(self.record(), document=document, now=now_ms()))
        for name, options in functions.items():
            self.pools[name] = self.open(name)
            if options.min_containers:
                self.client.run(self.client.pools.join(self.pools[name]))

    def record(self) -> AppRecord:
        """The app as published last."""
        return AppRecord(
            app_id=self.app_id,
            name=self.name or self.app_id,
            environment=self.environment,
            state=self.state,
            version=self.number,
        )

    def open(self, function: str) -> str:
        """Make the function's pool known."""
        spec = PoolSpec(app_id=self.app_id, function=function, label=function)
        signed = spec.seal(self.client.signer)
        self.client.run(
            self.client.pools.open(
                spec.pool, spec=signed, app=self.app_id, function=function, label=function
            )
        )
        return spec.pool

    def worker(self, **options: Any) -> PaintedWorker:
        """One more worker."""
        made = PaintedWorker(self.client, **options)
        self.workers.append(made)
        return made

    def submit(self, function: str = "f", count: int = 1) -> str:
        """A call with that many inputs; its id."""
        pool = self.pools[function]
        call = new_call_id(shard_of(pool))
        submission = Submission(
            call=call,
            pool=pool,
            digest=b"digest",
            envelopes=[b"envelope"] * count,
            total=count,
            ttl=60_000,
            now=now_ms(),
        )
        self.client.run(self.client.calls.submit(submission))
        return call

    def notes(self, call: str) -> list[str | None]:
        """What scripts told the callers instead of a result."""
        outputs = self.client.run(self.client.calls.read(call, b"0", block=0))
        return [output.note for output in outputs]

    def active(self) -> list[str]:
        """The active pools."""
        return self.client.run(self.client.observing.active())

    def assigned(self, function: str = "f") -> list[str]:
        """The containers of the function on all workers."""
        return [name for each in self.workers for name in each.assigned(self.pools[function])]

    def until(self, predicate: Callable[[], T], what: str, *, seconds: float = 10.0) -> T:
        """The predicate's first true value, while the workers act."""

        def acted() -> T:
            for each in self.workers:
                each.act()
            return predicate()

        return wait_until(acted, what=what, seconds=seconds)

    def serve(self, function: str = "f") -> int:
        """Every ready container runs all that waits; how many inputs that were."""
        count = 0
        for worker in self.workers:
            for name, report in list(worker.roster.items()):
                if report.pool == self.pools[function] and report.state == "ready":
                    claimed = worker.claim(name, 100)
                    worker.settle(report.pool, claimed)
                    count += len(claimed)
        return count

    def close(self) -> None:
        """End the app, and let the autoscaler take the rest away."""
        self.client.run(self.client.apps.stop(replace(self.record(), state="stopped")))
        for each in self.workers:
            each.is_deaf = True
        self.until(lambda: not self.active(), "the stopped app's pools are gone")
        for each in self.workers:
            each.retire()


def options(**given: Any) -> FunctionOptions:
    """Options of a function."""
    return validated_options(**given)


def now_ms() -> int:
    return time.time_ns() // 1_000_000

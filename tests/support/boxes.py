"""Workers as processes, an app for them to run, and an autoscaler that does as it is told."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from qmodal.client.client import Client
from qmodal.runner.publish import document_of
from qmodal.source.bundle import collect, pack
from qmodal.spec.documents import FunctionSpec, MethodSpec, PoolSpec, Version
from qmodal.spec.options import FunctionOptions, validated_options
from qmodal.store.apps import AppRecord
from qmodal.store.entries import Submission
from qmodal.store.fleet import ContainerReport
from qmodal.wire.envelope import PYTHON
from qmodal.wire.ids import container_id, new_app_id, new_call_id, shard_of
from qmodal.wire.outcome import Outcome, open_outcome
from qmodal.wire.payload import dump_arguments, load_value
from qmodal.wire.signing import mac_of
from tests.support.store.envelopes import changed, envelope_of
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PROGRAM = "from qmodal_workers.cli import worker; worker()"
# Its containers may claim for a second after its last renewal, and not for seven.
SHORT_LEASE = (
    "from qmodal.store import fleet; fleet.LEASE_MS, fleet.RENEW_SECONDS = 4_000, 0.2; " + PROGRAM
)
# Half as long: containers of at most once end 2.5 s before others take their box for lost, and nobody
# waits for a reply for longer than 3 s, so that a silence of one lease is noticed by all.
QUICK_LEASE = f"""
from qmodal.transport import connection
connection.BLOCK_SECONDS, connection.READ_SECONDS = 1.0, 3.0
from qmodal.store import fleet
fleet.LEASE_MS, fleet.RENEW_SECONDS = 5_000, 0.5
from qmodal_workers.agent import lease
lease.SAFE_NS = 2_500_000_000
from qmodal_workers.agent import maintenance
maintenance.SWEEP_SECONDS = 0.25
from qmodal_workers.container.intake import intake
intake.SURE_NS = 1_000_000_000
{PROGRAM}
"""
Pool = str
Call = str


@dataclass
class Box:
    """A worker process; `name` is its id."""

    process: subprocess.Popen[bytes]
    name: str
    serials: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def family(self) -> list[int]:
        """The pids of all that it has started."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def stop(self, *, seconds: float) -> int:
        """Ask it to stop; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


class Fleet:
    """Publishes apps, assigns containers, calls functions and reads what became of them."""

    def __init__(self, client: Client) -> None:
        self.client, self.folder = client, client.settings.home
        self.serials = itertools.count(1)
        self.epoch = client.run(client.fleet.lead("au-test"))

    @contextmanager
    def box(self, *options: str, program: str = PROGRAM, **environ: str) -> Iterator[Box]:
        """A worker, enrolled; `program` is what it runs."""
        before = set(self.workers())
        paths = [str(ROOT), str(ROOT / "workers"), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [sys.executable, "-P", "-W", "error", "-c", program, *options],
            env={
                **os.environ,
                **self.client.settings.to_environ(),
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                **environ,
            },
            start_new_session=True,
        )
        with process:
            try:
                names = wait_until(lambda: set(self.workers()) - before, what="a worker enrolls")
                yield Box(process, names.pop())
            finally:
                process.kill()

    def workers(self) -> dict[str, float]:
        return self.client.run(self.client.fleet.workers())

    def publish(
        self,
        folder: Path,
        source: str,
        functions: Mapping[str, FunctionOptions | None],
        *,
        app_id: str = "",
        name: str = "shop",
        number: int = 1,
    ) -> dict[str, Pool]:
        """An app (or its next version) of plain functions from one file; the pool of each function."""
        folder.mkdir(exist_ok=True)
        file = folder / "shop.py"
        file.write_text(source)
        bundle = pack(collect(file, None, [folder]))
        app_id = app_id or new_app_id()
        version = Version(
            app_id=app_id,
            name=name,
            environment="main",
            number=number,
            is_ephemeral=False,
            python=PYTHON,
            bundle=bundle.digest,
            main=None,
            functions={
                function: FunctionSpec(
                    tag=function,
                    module="shop",
                    qualname=function,
                    is_class=False,
                    methods={"": MethodSpec()},
                    options=(options or validated_options()).to_plain(),
                )
                for function, options in functions.items()
            },
        )
        client = self.client
        record = AppRecord(
            app_id=app_id, name=name, environment="main", state="deployed", version=number
        )
        client.run(client.apps.store_code(bundle.digest, bundle.content))
        document = document_of(client, version)
        assert client.run(client.apps.publish(record, document=document, now=_now()))
        return {function: self._open(app_id, function) for function in functions}

    def _open(self, app_id: str, function: str) -> Pool:
        spec = PoolSpec(app_id=app_id, function=function, label=function)
        client, signed = self.client, spec.seal(self.client.signer)
        client.run(
            client.pools.open(spec.pool, spec=signed, app=app_id, function=function, label=function)
        )
        client.run(client.pools.join(spec.pool))
        return spec.pool

    def assign(self, box: Box, pool: Pool) -> str:
        """Put a container of the pool on the box; its id."""
        name = container_id(box.name, next(box.serials))
        assert self.client.run(self.client.fleet.assign(box.name, {name: pool}, epoch=self.epoch))
        return name

    def take_off(self, box: Box, container: str) -> None:
        """The box should run that container no more."""
        self.client.run(self.client.fleet.assign(box.name, {container: None}, epoch=self.epoch))

    def report(self, box: Box, container: str) -> ContainerReport | None:
        """What the box last reported of the container."""
        reports = self.client.run(self.client.fleet.containers([box.name]))[box.name]
        return next((each for each in reports if each.container == container), None)

    def until(self, box: Box, container: str, state: str, seconds: float = 10) -> ContainerReport:
        """The report, once it says that state."""

        def found() -> ContainerReport | None:
            report = self.report(box, container)
            return report if report is not None and report.state == state else None

        what = f"{container} is {state}"
        report = wait_until(found, what=what, seconds=seconds)
        assert report is not None
        return report

    def ready(self, box: Box, pool: Pool) -> ContainerReport:
        """A new container of the pool, ready."""
        return self.until(box, self.assign(box, pool), "ready")

    def call(self, pool: Pool, *args: Any, **changes: Any) -> tuple[Call, bytes]:
        """Submit one input; the call's id and the signed envelope. `changes` to the envelope."""
        form, payload = dump_arguments(args, {}, plain_only=True, main_by_reference=False)
        call = new_call_id(shard_of(pool))
        envelope = envelope_of(pool=pool, call=call, created=_now(), format=form, payload=payload)
        sealed = changed(envelope, **changes).seal(self.client.signer)
        submission = Submission(
            call=call,
            pool=pool,
            digest=mac_of(sealed),
            envelopes=[sealed],
            total=1,
            ttl=60_000,
            now=_now(),
        )
        self.client.run(self.client.calls.submit(submission))
        return call, sealed

    def begin(self, pool: Pool, *args: Any) -> tuple[Call, bytes]:
        """The same, once user code runs: it gets one more argument, the file to make when it begins."""
        mark = self.folder / f"begun{next(self.serials)}"
        called = self.call(pool, *args, str(mark))
        wait_until(mark.exists, what="it runs")
        return called

    def outcome(self, called: tuple[Call, bytes], seconds: float = 10) -> Outcome | str:
        """How the call ended: a signed outcome, or a script's note."""
        call, sealed = called

        def ended() -> list[Any]:
            return self.client.run(self.client.calls.read(call, b"0", block=0))

        output = wait_until(ended, what=f"{call} ends", seconds=seconds)[0]
        if output.signed is None:
            return str(output.note)
        return open_outcome(
            output.signed, self.client.signer, call=call, index=0, request=mac_of(sealed)
        )

    def value(self, called: tuple[Call, bytes], seconds: float = 10) -> Any:
        """What the call returned."""
        outcome = self.outcome(called, seconds)
        assert isinstance(outcome, Outcome), outcome
        assert outcome.kind == "value", outcome
        return load_value(outcome.format, outcome.payload, plain_only=True)

    def pending(self, pool: Pool) -> dict[str, int]:
        """How many entries each consumer holds."""
        (seen,) = self.client.run(self.client.observing.observe([pool]))
        assert seen is not None
        return {each.name: each.pending for each in seen.consumers}

    def printed(self, app: str) -> bytes:
        """Everything in the app's log."""
        return b"".join(each.text for each in self.client.run(self.client.logs.tail(app, 1000)))


def _now() -> int:
    return time.time_ns() // 1_000_000

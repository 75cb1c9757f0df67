"""Two workers share two GPUs and are killed, frozen and given up, and so are their containers: nothing is owned twice or lost."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.spec.options import validated_options
from tests.support.boxes import QUICK_LEASE, Box, Fleet
from tests.support.hardware.gpus import StubGpu, StubMachine
from tests.support.stacks import is_gone
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

# A container owns its GPU in its own way, too, for as long as it lives; who finds another owner notes it.
SOURCE = """
import fcntl, os, time

OWNED = {}

def own(folder, uuid):
    file = OWNED[uuid] = open(os.path.join(folder, uuid), "w")
    for _ in range(50):  # the descriptors of one that was killed are closed one after another
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            break
    else:
        with open(os.path.join(folder, "twice"), "a") as twice:
            twice.write(f"{uuid} {os.getpid()}\\n")
    with open(os.path.join(folder, "owners"), "a") as owners:
        owners.write(f"{uuid} {os.getpid()}\\n")

def work(folder):
    for uuid in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        if uuid not in OWNED:
            own(folder, uuid)
    time.sleep(0.02)
    return os.environ["CUDA_VISIBLE_DEVICES"]
"""
EACH_LOOK = 3


class Leader:
    """Keeps a container assigned to every living worker, whether there is a GPU for it or not, and calls under way."""

    def __init__(self, settings: Settings, pool: str, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, bytes]] = []
        self.client = Client(settings)
        self.fleet, self.pool = Fleet(self.client), pool
        self.boxes: dict[str, Box] = {}
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.05):
            self.look()
            self.calls += [self.fleet.call(self.pool, str(self.folder)) for _ in range(EACH_LOOK)]
        self.client.close()

    def look(self) -> None:
        living = self.client.run(self.client.fleet.living_workers())
        assigned = self.client.run(self.client.fleet.assigned(living))
        reports = self.client.run(self.client.fleet.containers(living))
        for worker in living:
            box = self.boxes.setdefault(worker, Box(None, worker))  # type: ignore[arg-type]
            over = {each.container for each in reports.get(worker, ()) if each.is_over}
            for name in over & assigned.get(worker, {}).keys():
                self.fleet.take_off(box, name)
            if not assigned.get(worker, {}).keys() - over:
                with suppress(AssertionError):  # the worker was given up meanwhile
                    self.fleet.assign(box, self.pool)


@contextmanager
def leading(fleet: Fleet, pool: str, folder: Path) -> Iterator[Leader]:
    leader = Leader(fleet.client.settings, pool, folder)
    thread = threading.Thread(target=leader.run)
    thread.start()
    try:
        yield leader
    finally:
        leader.is_over.set()
        thread.join()


class Harm:
    """What is done to the workers of one machine, and how often."""

    def __init__(self, fleet: Fleet, machine: StubMachine, stack: ExitStack, owners: Path) -> None:
        self.fleet, self.machine, self.stack, self.owners = fleet, machine, stack, owners
        self.counts: Counter[str] = Counter()

    def worker(self) -> Box:
        box = self.fleet.box(program=QUICK_LEASE, **self.machine.environ)
        return self.stack.enter_context(box)

    def send(self, box: Box, number: signal.Signals) -> None:
        box.process.send_signal(number)
        self.counts[number.name] += 1

    def kill_container(self) -> None:
        """The last one that has begun to use a GPU, and lives."""
        pid = wait_until(self._owner, what="a container uses a GPU", seconds=30)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid), what="it has ended")
        self.counts["containers killed"] += 1

    def _owner(self) -> int:
        noted = self.owners.read_text().split() if self.owners.exists() else []
        return next((pid for pid in map(int, noted[1::2][::-1]) if not is_gone(pid)), 0)

    def is_given_up(self, box: Box) -> bool:
        return box.name not in self.fleet.client.run(self.fleet.client.fleet.living_workers())


def test_two_gpus_have_one_owner_each_while_workers_and_containers_die_and_freeze(
    fleet: Fleet, nvml: Path, tmp_path: Path
) -> None:
    machine = StubMachine(nvml, tmp_path, StubGpu(uuid="GPU-a"), StubGpu(uuid="GPU-b"))
    folder = tmp_path / "owned"
    folder.mkdir()
    pool = fleet.publish(tmp_path / "code", SOURCE, {"work": validated_options(gpu="A100")})["work"]
    with ExitStack() as stack, leading(fleet, pool, folder) as leader:
        harm = Harm(fleet, machine, stack, folder / "owners")
        first, second, third = (harm.worker() for _ in range(3))
        harm.kill_container()
        harm.send(first, signal.SIGKILL)
        harm.kill_container()
        # For longer than its lease: others take it for lost, while its container holds its GPU.
        harm.send(second, signal.SIGSTOP)
        wait_until(lambda: harm.is_given_up(second), what="it is given up", seconds=30)
        harm.kill_container()
        harm.send(second, signal.SIGCONT)
        harm.send(third, signal.SIGTERM)
        harm.kill_container()
        values = [fleet.value(call, seconds=60) for call in tuple(leader.calls)]
        assert leader.boxes.keys() > {each.name for each in (first, second, third)}
    assert Counter(values).keys() == {"GPU-a", "GPU-b"}
    owners = set((folder / "owners").read_text().split("\n")) - {""}
    print({"values": len(values), "owners": len(owners), **harm.counts})
    assert len(owners) >= 5  # four were killed
    assert not (folder / "twice").exists(), (folder / "twice").read_text()

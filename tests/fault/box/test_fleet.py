"""Three boxes on a network, two of them with GPUs: cut off and healed, stopped, cordoned and killed, while calls flow."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import qmodal as library
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from tests.support.hardware.gpus import StubGpu, StubMachine
from tests.support.hardware.network import network
from tests.support.hardware.site import Site
from tests.support.servers import run_server, server_binary
from tests.support.waiting import wait_until

# A GPU has two places, of which half a GPU takes one. Who has it locks them in its own way, for as long as it lives.
PROGRAM = """
import fcntl, os, socket, time
import qmodal

app = qmodal.App("fleet")
OWNED = {}

def locked(path):
    file = open(path, "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file

def places(folder, uuid, count):
    have = [locked(os.path.join(folder, f"{uuid}-{place}")) for place in range(2)]
    have = [each for each in have if each is not None]
    return have[:count] if len(have) >= count else None

def own(folder, uuid, count):
    for _ in range(100):  # the descriptors of one that was killed are closed one after another
        OWNED[uuid] = places(folder, uuid, count)
        if OWNED[uuid]:
            break
        time.sleep(0.01)
    with open(os.path.join(folder, "owners" if OWNED[uuid] else "twice"), "a") as notes:
        notes.write(f"{uuid} {os.getpid()}\\n")

def work(folder, count=2):
    uuids = list(filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")))
    for uuid in uuids:
        if uuid not in OWNED:
            own(folder, uuid, count)
    time.sleep(0.02)
    return [socket.gethostname(), *uuids]

@app.function(gpu="A100")
def train(folder):
    return work(folder)

@app.function(gpu="A100")
def tune(folder):
    return work(folder)

def waiting(folder, go):
    found = work(folder)
    open(f"{go}-{os.getpid()}", "w").close()
    while not os.path.exists(go):
        time.sleep(0.02)
    return found

@app.function(gpu="A100")
def hold(folder, go):
    return waiting(folder, go)

@app.function(gpu="A100")
def keep(folder, go):
    return waiting(folder, go)

@app.function(gpu="L4:0.5")
def half(folder):
    return work(folder, 1)

@app.function(gpu=["H100", "L4"])
def either(folder):
    return work(folder)

@app.function(gpu="H100")
def never(folder):
    return work(folder)

@app.function(region="c")
def there(folder):
    return work(folder)

@app.function(cpu=0.5)
def plain(folder):
    return work(folder)

@app.function(cpu=1)
def meet(folder, go):
    return waiting(folder, go)
"""
A100, L4 = ("NVIDIA A100-SXM4-80GB", 81_920), ("NVIDIA L4", 23_034)
# Where each function may run, and with which GPUs.
WHERE = {
    "train": ({"gpu-1"}, "GPU-A100"),
    "tune": ({"gpu-1"}, "GPU-A100"),
    "hold": ({"gpu-1"}, "GPU-A100"),
    "keep": ({"gpu-1"}, "GPU-A100"),
    "half": ({"gpu-2"}, "GPU-L4"),
    "either": ({"gpu-2"}, "GPU-L4"),
    "there": ({"cpu-1"}, ""),
    "plain": ({"gpu-1", "gpu-2", "cpu-1"}, ""),
    "meet": ({"gpu-1", "gpu-2", "cpu-1"}, ""),
}
FLOWING = ("train", "tune", "half", "either", "there", "plain")
PATIENCE = 60.0


@dataclass
class Caller:
    """Calls functions of the app, and knows what became of the calls."""

    folder: Path
    calls: list[tuple[str, Any]] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def call(self, name: str, *args: str) -> Any:
        made = library.Function.from_name("fleet", name).spawn(str(self.folder), *args)
        self.calls.append((name, made))
        return made

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """One call of each function ten times a second, meanwhile."""
        thread = threading.Thread(target=self._flow)
        thread.start()
        try:
            yield
        finally:
            self.is_over.set()
            thread.join()

    def _flow(self) -> None:
        while not self.is_over.wait(0.1):
            for name in FLOWING:
                self.call(name)

    def seconds(self, name: str) -> float:
        """How long a call takes that is made now."""
        began = time.monotonic()
        self.call(name).get(timeout=PATIENCE)
        return round(time.monotonic() - began, 1)

    def begun(self, go: str, count: int) -> None:
        """Wait for so many calls that wait for this file."""
        marks = Path(go).parent.glob
        wait_until(
            lambda: len([*marks(f"{Path(go).name}-*")]) >= count,
            what=f"{count} calls run",
            seconds=40,
            pause=0.05,
        )


@pytest.fixture
def site(settings: Settings, tmp_path: Path, nvml: Path) -> Iterator[Site]:
    """A server and an autoscaler on this machine, and three boxes behind its bridge; the app is deployed."""
    with ExitStack() as stack:
        net = stack.enter_context(network())
        listens = ("--bind", net.address, "127.0.0.1", "--port", "6379", "--protected-mode", "no")
        stack.enter_context(run_server(server_binary(), *listens))
        client = Client(replace(settings, redis_url=f"redis://{net.address}:6379"))
        stack.callback(client.close)
        stack.callback(clients.use, clients.use(client))
        made = Site(client, tmp_path, net, stack)
        for number, ((name, memory), kind) in enumerate(((A100, "A100"), (L4, "L4")), 1):
            folder = tmp_path / kind
            folder.mkdir()
            gpus = [
                StubGpu(uuid=f"GPU-{kind}-{each}", name=name, memory=memory) for each in range(2)
            ]
            machine = StubMachine(nvml, folder, *gpus)
            made.add(f"gpu-{number}", "--cpus", "4", "--label", "region=g", machine=machine)
        made.add("cpu-1", "--cpus", "4", "--label", "region=c")
        made.start_autoscaler()
        (tmp_path / "fleet.py").write_text(PROGRAM)
        made.say("deploy", "fleet.py")
        yield made


def test_every_call_of_a_harmed_fleet_has_one_result_from_a_gpu_of_a_kind_that_it_asked_for(
    site: Site, tmp_path: Path
) -> None:
    owned = tmp_path / "owned"
    owned.mkdir()
    caller, took, began = Caller(owned), dict[str, float](), time.monotonic()
    with caller.flowing():
        containers_spread(caller)
        scarcity_is_explained(site, caller)
        took["cut off"] = cut_off_and_healed(site, caller)
        took |= stopped_and_killed(site, caller)
    hosts = judged(site, caller)
    assert not (owned / "twice").exists(), (owned / "twice").read_text()
    owners = (owned / "owners").read_text().splitlines()
    calls = Counter(name for name, _ in caller.calls)
    seconds = round(time.monotonic() - began, 1)
    print({"calls": calls.total(), "owners": len(owners), "serves after": took, "took": seconds})
    print({name: dict(found) for name, found in hosts.items()})


def containers_spread(caller: Caller) -> None:
    """Three containers of a function that asks for a CPU, each on a box of its own."""
    go = str(caller.folder / "met")
    calls = [caller.call("meet", go) for _ in range(3)]
    caller.begun(go, 3)
    Path(go).touch()
    assert {call.get(timeout=PATIENCE)[0] for call in calls} == {"gpu-1", "gpu-2", "cpu-1"}


def scarcity_is_explained(site: Site, caller: Caller) -> None:
    """Nobody has an H100; both A100 are held, and two pools wait for them, one behind the other."""
    never = caller.call("never")
    assert "gpu-1: it has no GPU H100 (it has " in site.why("fleet/never", "impossible")
    never.cancel()
    caller.calls.remove(("never", never))
    go = str(caller.folder / "let-go")
    for name in ("hold", "keep"):
        caller.call(name, go)
    caller.begun(go, 2)
    said: list[str] = []
    # Which of the two is ahead may change between two looks.
    while not any("on gpu-1, and 1 pool is ahead of it" in each for each in said):
        assert len(said) < 20, said
        said += [
            site.why(f"fleet/{name}", "gpu", "A100 is free on gpu-1") for name in ("train", "tune")
        ]
    Path(go).touch()


def cut_off_and_healed(site: Site, caller: Caller) -> float:
    """The box with the A100 is cut off until it is given up; seconds after which it serves again."""
    box = site.boxes["gpu-1"]
    site.network.cut(box.host)
    site.until_lost(box)
    site.why("fleet/train", "impossible", "no GPU A100")
    site.network.heal(box.host)
    took = caller.seconds("train")
    box.worker = site.until_enrolled(box)
    site.why("gpu-1", "waited-for")
    return took


def stopped_and_killed(site: Site, caller: Caller) -> dict[str, float]:
    """One worker is stopped, and one killed, until they are given up; the third box is cordoned meanwhile."""
    stopped, killed = site.boxes["gpu-2"], site.boxes["cpu-1"]
    stopped.send(signal.SIGSTOP)
    killed.send(signal.SIGKILL)
    site.say("worker", "cordon", "gpu-1")
    site.why("gpu-1", "cordoned")
    site.say("worker", "uncordon", "gpu-1")
    site.until_lost(killed)
    site.why("fleet/there", "impossible", "it has no label c")
    site.start_worker(killed)
    took = {"killed": caller.seconds("there")}
    site.until_lost(stopped)
    stopped.send(signal.SIGCONT)
    took["stopped"] = caller.seconds("half")
    return took


def judged(site: Site, caller: Caller) -> dict[str, Counter[str]]:
    """Where the calls of each function ran; each has one result, from where it may run."""
    hosts = {name: Counter[str]() for name in WHERE}
    for name, call in caller.calls:
        host, *uuids = call.get(timeout=PATIENCE)
        able, kind = WHERE[name]
        assert host in able, (name, host)
        assert len(uuids) == bool(kind), (name, uuids)
        assert all(uuid.startswith(kind) for uuid in uuids), (name, uuids)
        outputs = site.client.run(site.client.calls.read(call.object_id, b"0", block=0))
        assert len(outputs) == 1, (name, call.object_id)
        hosts[name][host] += 1
    return hosts

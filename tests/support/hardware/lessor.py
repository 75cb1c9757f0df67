"""Workers that do nothing but lease GPUs, and containers that do nothing but hold them: real processes with real locks.

`python -m tests.support.hardware.lessor FD` forks workers, a message on the socket for each. A worker leases, forks a container that
inherits the locks (and that may fork a process which outlives it), and answers with their pids.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from qmodal.spec.needs.gpus import Gpu, gpu_needs
from qmodal_workers.devices import leases as module
from qmodal_workers.devices.leases import GpuLease, GpuLeases
from qmodal_workers.devices.locks import GpuLocks
from qmodal_workers.devices.offered import OfferedGpus
from qmodal_workers.devices.watch import GpuWatch
from qmodal_workers.ipc.messages import pair, receive, send
from qmodal_workers.ipc.processes import die_with_parent

ROOT = Path(__file__).parents[3]
GPUS = (
    Gpu(uuid="GPU-0", kind="A100", memory=81_920),
    Gpu(uuid="GPU-1", kind="A100", memory=81_920),
    Gpu(uuid="GPU-2", kind="L4", memory=23_034),
)


class Lessor:
    """A worker process, which may be killed, stopped and told what has ended."""

    def __init__(self, end: socket.socket, pid: int) -> None:
        self._end, self.pid = end, pid

    def ask(self, **message: Any) -> dict[str, Any]:
        send(self._end, message)
        received = receive(self._end)
        assert received is not None, "the worker has died"
        return received[0]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def close(self) -> None:
        self._end.close()


class Lessors:
    """The process that forks workers."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def worker(self, folder: Path) -> Lessor:
        """A new one, which locks GPUs in that folder."""
        ours, theirs = pair()
        send(self._end, {"worker": str(folder)}, [theirs.fileno()])
        theirs.close()
        received = receive(self._end)
        assert received is not None
        return Lessor(ours, received[0]["pid"])


@contextmanager
def lessors() -> Iterator[Lessors]:
    """What forks workers."""
    ours, theirs = pair()
    command = [sys.executable, "-P", "-m", "tests.support.hardware.lessor"]
    paths = [str(ROOT), str(ROOT / "workers"), os.environ.get("PYTHONPATH", "")]
    with theirs:
        process = subprocess.Popen(
            [*command, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
    with process, ours:
        try:
            yield Lessors(ours)
        finally:
            process.kill()


def main() -> None:
    """Fork workers until the other end is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    end = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()
    while (received := receive(end)) is not None:
        message, (theirs,) = received
        pid = os.fork()
        if pid == 0:
            end.close()
            _work(socket.socket(fileno=theirs), Path(message["worker"]))
        os.close(theirs)
        send(end, {"pid": pid})


def _work(end: socket.socket, folder: Path) -> NoReturn:
    """Be a worker: lease, and take in what has ended, until the other end is closed."""
    module.ELSEWHERE_SECONDS = 0.0
    held = _leases(folder)
    with suppress(OSError):
        while (received := receive(end)) is not None:
            message, _ = received
            answer: dict[str, Any] = {"pids": []}
            if "lease" in message:
                lease = held.lease(message["lease"], gpu_needs(message["gpu"]))
                if lease is not None:
                    answer = _started(lease, leaves=message["leaves"], end=end)
            elif "ended" in message:
                held.release(message["ended"])
            else:  # it comes back under a new id
                held = _leases(folder)
            send(end, answer)
    os._exit(0)


def _leases(folder: Path) -> GpuLeases:
    return GpuLeases(GpuWatch(OfferedGpus(gpus=GPUS)), GpuLocks(folder))


def _started(lease: GpuLease, *, leaves: bool, end: socket.socket) -> dict[str, Any]:
    """A container with this lease; `leaves`: it has forked a process that lives on when it ends."""
    reader, writer = os.pipe()
    worker = os.getpid()
    pid = os.fork()
    if pid == 0:
        end.close()
        os.close(reader)
        die_with_parent(worker)
        child = os.fork() if leaves else -1
        if child != 0:
            os.write(writer, max(0, child).to_bytes(8, "little"))
        os.close(writer)
        signal.pause()
        os._exit(0)
    os.close(writer)
    child = int.from_bytes(os.read(reader, 8), "little")
    os.close(reader)
    lease.hand_over()
    return {
        "pids": [pid, *([child] if child else [])],
        "uuids": lease.uuids,
        "shares": lease.shares,
    }


if __name__ == "__main__":
    main()

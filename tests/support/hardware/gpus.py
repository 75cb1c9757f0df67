"""A machine with GPUs that are not there: the stub of NVIDIA's library, and the file that says what it has."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml.c")
LIBRARY = "libnvidia-ml.so.1"


def built(folder: Path) -> Path:
    """The folder with the library, compiled; skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the stub of NVIDIA's library cannot be built (install gcc)")
    run = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", folder / LIBRARY, SOURCE],
        capture_output=True,
        check=False,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return folder


@dataclass(frozen=True, kw_only=True)
class StubGpu:
    """A GPU that the library lists; memory in MiB. `state`: ok, lost or gone. `parts`: MIG devices, UUID -> profile."""

    uuid: str
    name: str = "NVIDIA A100-SXM4-80GB"
    memory: int = 81_920
    used: int = 1
    state: str = "ok"
    parts: dict[str, str] = field(default_factory=dict)
    processes: dict[int, int] = field(default_factory=dict)  # pid -> MiB

    def lines(self) -> list[str]:
        about = f"{self.uuid} {self.memory} {self.used}"
        parts = [
            f"mig {self.uuid} {uuid} 9728 1 {self.name} MIG {profile}"
            for uuid, profile in self.parts.items()
        ]
        processes = [f"proc {self.uuid} {pid} {mib}" for pid, mib in self.processes.items()]
        return [f"gpu {about} 87 250 61 {self.state} {self.name}", *parts, *processes]


class StubMachine:
    """What a machine has; `environ` makes a process believe it."""

    def __init__(self, library: Path, folder: Path, *gpus: StubGpu) -> None:
        self._file = folder / "gpus.txt"
        self._gpus = {gpu.uuid: gpu for gpu in gpus}
        self._more: list[str] = []
        self.environ = {
            "LD_LIBRARY_PATH": str(library),
            "NVML_STUB": str(self._file),
            "QMODAL_GPU_LOCKS": str(folder / "locks"),
        }
        self._write()

    def change(self, uuid: str, **changes: object) -> None:
        """From now on that GPU is so."""
        self._gpus[uuid] = replace(self._gpus[uuid], **changes)  # type: ignore[arg-type]
        self._write()

    def xid(self, uuid: str, code: int) -> None:
        """The driver tells of a fault of that GPU, once."""
        self._more.append(f"xid {uuid} {code} {len(self._more) + 1}")
        self._write()

    def die(self) -> None:
        """The driver answers nothing any more."""
        self._more.append("dead")
        self._write()

    def _write(self) -> None:
        lines = [line for gpu in self._gpus.values() for line in gpu.lines()]
        new = self._file.with_suffix(".new")
        new.write_text("\n".join([*lines, *self._more]) + "\n")
        new.replace(self._file)

"""Rounds: every workload, and in it every subject after the other, each in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import Sizes
from benchmarks.processes import descendants
from benchmarks.report import Refusal, Results, Sample
from benchmarks.server import Server
from benchmarks.subjects import SUBJECTS
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parents[1]
# What is said of a subject that has no figure, at most.
REASON = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What to run, and on which server."""

    server: Server
    subjects: Sequence[str]
    workloads: Sequence[str]
    rounds: int
    sizes: Sizes
    environments: Path
    results: Results
    is_unix: bool = False

    def all_rounds(self) -> None:
        """Everything; a subject that fails costs its own figures only."""
        for number in range(self.rounds):
            for workload in self.workloads:
                if number and WORKLOADS[workload].once:
                    continue
                for subject in self._able(workload):
                    self._note(number, subject, workload, self._measure(subject, workload))

    def _able(self, workload: str) -> list[str]:
        """Those for whom it would not only repeat another workload."""
        is_open = not WORKLOADS[workload].is_unpacked
        return [name for name in self.subjects if is_open or SUBJECTS[name].runs_unpacked]

    def _measure(self, subject: str, workload: str) -> list[dict[str, Any]]:
        self.server.empty()
        command = [python_of(subject, self.environments), "-m", "benchmarks.host"]
        command += [subject, workload, "--sizes", json.dumps(asdict(self.sizes))]
        with contextlib.ExitStack() as files:
            said = files.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            # What a subject leaves in its temporary folder goes with that folder.
            folder = files.enter_context(
                tempfile.TemporaryDirectory(prefix="qb-", ignore_cleanup_errors=True)
            )
            process = subprocess.Popen(
                command,
                env=self._environ(workload, folder),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )
            with process:
                output = _output(process, WORKLOADS[workload].limit)
            lines = [json.loads(line) for line in output.splitlines()]
            if process.returncode:
                said.seek(0)
                last = (said.read().strip().splitlines() or ["it said nothing"])[-1]
                how = "took too long" if process.returncode < 0 else "ended"
                lines.append({"failed": f"{how}: {last}"})
        return lines

    def _environ(self, workload: str, folder: str) -> dict[str, str]:
        needed = WORKLOADS[workload]
        kept = {name: value for name, value in os.environ.items() if "QMODAL" not in name}
        return {
            **kept,
            **needed.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": folder,
            "RAY_TMPDIR": folder,
            "BENCHMARK_URL": self.server.unix_url if self.is_unix else self.server.url,
            "BENCHMARK_WORKLOAD": workload,
            "BENCHMARK_WORKERS": str(needed.workers),
            "BENCHMARK_BEST": "1" if needed.at_its_best else "",
            "BENCHMARK_LATENCY": "1" if needed.for_latency else "",
        }

    def _note(
        self, number: int, subject: str, workload: str, lines: Sequence[dict[str, Any]]
    ) -> None:
        for line in lines:
            if "versions" in line:
                self.results.versions[subject] = line["versions"]
            elif "measure" in line:
                measure, value = line.pop("measure"), line.pop("value")
                self.results.samples.append(
                    Sample(round=number, subject=subject, measure=measure, value=value, more=line)
                )
                _say(f"round {number} {workload} {subject}: {measure} {value:,.4g}")
            else:
                ((kind, reason),) = line.items()
                refusal = Refusal(
                    round=number,
                    subject=subject,
                    workload=workload,
                    reason=" ".join(reason.split())[:REASON],
                    failed=kind == "failed",
                )
                self.results.refusals.append(refusal)
                _say(f"round {number} {workload} {subject}: {kind}: {refusal.reason}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _output(process: subprocess.Popen[str], seconds: float) -> str:
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        pids = [process.pid, *descendants(process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return process.communicate()[0]


def python_of(subject: str, environments: Path) -> str:
    """The interpreter that has the subject: of its own environment, else this one."""
    own = environments / subject / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def is_installed(subject: str, environments: Path) -> bool:
    """Whether the subject can be measured at all."""
    if (environments / subject / "bin" / "python").exists():
        return True
    try:
        return importlib.util.find_spec(SUBJECTS[subject].module) is not None
    except ModuleNotFoundError:
        return False

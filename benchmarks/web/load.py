"""Requests, one after the other on each of some connections: by wrk if it is there, else by `client.py`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of it: requests and their rate, latencies in µs, and requests that failed."""

    requests: int
    rate: float
    p50: float
    p99: float
    failed: int


def put_load(url: str, *, connections: int, seconds: int) -> Load:
    """Ask for the URL for so long; raises RuntimeError if nothing can be said of it."""
    wrk = shutil.which("wrk")
    if wrk is None:
        options = ["--connections", str(connections), "--seconds", str(seconds), url]
        return Load(**json.loads(run_apart("benchmarks.web.client", "load", *options)))
    # A late answer is no error: on a busy machine one may take longer than wrk's own two seconds.
    options = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s"]
    options += ["--latency", url]
    return read_wrk(_run([wrk, *options]))


def run_apart(module: str, *options: str) -> str:
    """What a program of ours prints, in a process of its own, so that no side shares its interpreter."""
    return _run([sys.executable, "-m", module, *options])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def read_wrk(text: str) -> Load:
    """What wrk says, as figures."""
    latencies = {
        int(share): float(value) * MICROSECONDS[unit]
        for share, value, unit in re.findall(
            r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)[ \t]*$", text, re.MULTILINE
        )
    }
    total = re.search(r"^\s*(\d+) requests in", text, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    if total is None or rate is None or not {50, 99} <= latencies.keys():
        raise RuntimeError(f"wrk says nothing that can be read: {text}")
    refused = re.findall(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.findall(r"Socket errors: (.+)", text)
    failed = [*refused, *(number for line in broken for number in re.findall(r"\d+", line))]
    return Load(
        requests=int(total[1]),
        rate=float(rate[1]),
        p50=latencies[50],
        p99=latencies[99],
        failed=sum(map(int, failed)),
    )

"""`python -m benchmarks.host SUBJECT WORKLOAD`: measure one subject at one workload.

A process of its own, in the subject's own environment, so that peers which need different versions
of the same package can be measured in one run. Each line of its output is a JSON object: a figure
(`measure`, `value`), or `cannot`, `failed` or `versions`. What it is told comes in variables, see
`settings`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Coroutine
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks import settings
from benchmarks.bench import Bench, CannotError, Sizes, divert_stdout
from benchmarks.resp import Look
from benchmarks.shape import AioSubject, Direct, drive
from benchmarks.subjects import SUBJECTS
from benchmarks.workloads import WORKLOADS, Workload


def main() -> int:
    """Measure; the exit code is 0 also when the subject failed, which its last line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host", description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--sizes", default="{}", help="JSON of the fields of `Sizes`")
    options = parser.parse_args()
    out = divert_stdout()
    try:
        workload = WORKLOADS[options.workload]
        own, face = faces(options.subject, workload)
        if reason := face.cannot.get(options.workload):
            raise CannotError(reason)
        entry = SUBJECTS[options.subject]
        look = Look(settings.URL) if entry.needs_server else None
        sizes = Sizes(**json.loads(options.sizes))
        bench = Bench(face, own, sizes, out, look, entry.runs_unpacked)
        bench.say(versions=versions(entry.packages))
        run(face, measured(bench, workload))
    except CannotError as error:
        out.write(json.dumps({"cannot": str(error)}) + "\n")
    except BaseException as error:
        traceback.print_exc()
        out.write(json.dumps({"failed": f"{type(error).__name__}: {error}"[:300]}) + "\n")
    out.flush()
    return 0


async def measured(bench: Bench, workload: Workload) -> None:
    """The workload, with everything ended behind it."""
    try:
        await workload.run(bench)
    finally:
        await bench.stop()


def faces(name: str, workload: Workload) -> tuple[Any, AioSubject]:
    """The subject's own object, and the same as a workload sees it."""
    module = importlib.import_module(f"benchmarks.subjects.on_{name}")
    if hasattr(module, "Subject") and not workload.needs_asyncio:
        own = module.Subject()
        return own, Direct(own)
    if not hasattr(module, "AioSubject"):
        raise CannotError("has no asyncio API")
    own = module.AioSubject()
    return own, own


def run(face: AioSubject, work: Coroutine[Any, Any, None]) -> None:
    """Without an event loop for blocking verbs, else on the loop that the subject likes best."""
    if isinstance(face, Direct):
        drive(work)
        return
    factory = None
    if face.on_uvloop:
        with contextlib.suppress(ImportError):
            factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """What is installed here of a subject."""
    found = {"python": sys.version.split()[0]}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Some clients leave threads behind that would keep the process.
    os._exit(code)

"""`qmodal up` with its gateway, for tests that send requests to it as people would."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.support.installed import QMODAL, Desk

CURL = shutil.which("curl")


@dataclass(frozen=True, slots=True)
class Site:
    """What `qmodal up` serves."""

    here: Desk
    port: int

    def curl(self, url: str, *options: str, is_refused: bool = False) -> str:
        """What curl prints for a URL, in which PORT stands for ours; fails on an error that `is_refused` does not expect."""
        if CURL is None:
            pytest.skip("curl is not installed")
        asked = url.replace("PORT", str(self.port))
        quiet = ("--silent", "--show-error", "--noproxy", "*", "--max-time", "40")
        fails = () if is_refused else ("--fail-with-body",)
        return self.here.run(CURL, *quiet, *fails, *options, asked)


@contextmanager
def served(here: Desk) -> Iterator[Site]:
    """`qmodal up` at this desk, until the end of the block."""
    with here.start(QMODAL, "up") as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        ports = [line.rsplit(":", 1)[1] for line in said if line.startswith("Web functions are")]
        assert ports, said
        yield Site(here, int(ports[0]))
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=40)
        assert process.returncode == 0, rest

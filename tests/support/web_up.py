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

    def curl(self, url: str, *options: str) -> str:
        """What curl prints for a URL, in which PORT stands for ours; fails if curl does."""
        if CURL is None:
            pytest.skip("curl is not installed")
        asked = url.replace("PORT", str(self.port))
        quiet = ("--silent", "--show-error", "--fail-with-body", "--noproxy", "*")
        return self.here.run(CURL, *quiet, *options, asked)


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

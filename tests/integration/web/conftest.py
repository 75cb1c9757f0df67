"""One program with web functions for each test module, on a stack of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import current
from tests.support.served import Served, served
from tests.support.stacks import running_program

PROGRAM = Path(__file__).parents[2] / "programs" / "web.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program of bare apps."""
    with running_program(PROGRAM.with_name("gated.py"), tmp_path_factory) as module:
        yield module


@pytest.fixture(scope="module")
def gateway(gated: Any) -> Iterator[Served]:
    """A gateway that serves it."""
    with served(current().settings) as running:
        yield running

"""A gateway in front of one program of bare apps for each test module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import current
from tests.support.stacks import running_program
from tests.support.web.served import Served, served

PROGRAM = Path(__file__).parents[2] / "programs" / "gated.py"


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program of bare apps."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


@pytest.fixture(scope="module")
def gateway(gated: Any) -> Iterator[Served]:
    """A gateway that serves it."""
    with served(current().settings) as running:
        yield running

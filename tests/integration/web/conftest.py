"""One program with web functions for each test module, on a stack of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stacks import running_program

PROGRAM = Path(__file__).parents[2] / "programs" / "web.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running program."""
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module

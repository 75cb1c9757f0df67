"""The pytest plugin: its fixtures, which import what they need when a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qmodal.testing.session import SessionStack


@pytest.fixture(scope="session")
def qmodal_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionStack]:
    """A server, an autoscaler and a worker for this session of tests, on which apps run and are deployed.

    With pytest-xdist each of its processes has its own. No variable that names a server has any influence.
    """
    from qmodal.testing.session import session_stack

    with session_stack(tmp_path_factory.mktemp("qmodal")) as stack:
        yield stack


@pytest.fixture
def qmodal_eager() -> Iterator[None]:
    """Calls of this test run in its process: `qmodal.testing.eager()`."""
    from qmodal.testing import eager

    with eager():
        yield

"""Rubbish in any key of a whole stack at work: nothing ends, nobody waits for ever, and it serves on."""

from __future__ import annotations

import time

import pytest

from tests.integration.control_plane.foreign.fuzz import attack

# `python -m tests.integration.control_plane.foreign.fuzz` goes on for as long as it is told.
SECONDS, SEED = 25.0, 20


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_no_write_anywhere_ends_a_process_or_makes_a_caller_wait_for_ever(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    ends = time.monotonic() + SECONDS
    with attack(SEED, tmp_path_factory.mktemp("home")) as this:
        while time.monotonic() < ends and not this.violations:
            this.step()
        this.rest()
    assert not this.violations, "\n".join(this.violations)
    assert len(this.done) > 10, this.slowest

"""The state machine of inputs under random steps, against a model that forgets nothing."""

from __future__ import annotations

import pytest

from qmodal.client.client import Client
from tests.model.walk import Walk
from tests.model.walk_check import check, finish

STEPS = 7_000


@pytest.mark.parametrize("seed", [1, 7, 2024, 31337])
def test_no_input_is_lost_or_ends_twice_whatever_happens_to_it(client: Client, seed: int) -> None:
    walk = Walk(client, seed)
    for number in range(STEPS):
        walk.step()
        if number % 50 == 0:
            check(walk)
    finish(walk)

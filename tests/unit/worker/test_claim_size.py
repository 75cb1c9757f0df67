"""How many entries a container claims at once."""

from __future__ import annotations

import pytest

from qmodal_workers.container.intake.claim_size import (
    CLAIMS_FOR_MANY,
    MANY,
    MOST_CLAIMED,
    RECENT,
    ClaimSizer,
)

GROUP = [b"name", b"containers", b"consumers"]


def sizer(seconds: float = 0.00001, *, found: int = MANY, sharing: int = 1) -> ClaimSizer:
    """One that has run inputs of that length and whose last claim has found so many entries."""
    made = ClaimSizer()
    for _ in range(RECENT):
        made.ran(seconds)
    made.take_replies([[[*GROUP, sharing]]])
    made.found(found)
    return made


def test_a_claim_that_waits_takes_what_many_callers_submit_together() -> None:
    assert sizer().waiting() == sizer().beside() == MOST_CLAIMED
    assert sizer(0.0004).waiting() == 12


@pytest.mark.parametrize(
    "made",
    [
        ClaimSizer(),
        sizer(found=MANY - 1),
        sizer(sharing=2),
        sizer(0.0006),
    ],
)
def test_any_other_claim_that_waits_takes_one(made: ClaimSizer) -> None:
    assert made.waiting() == 1
    assert made.beside() == 0


def test_inputs_that_vary_widely_are_claimed_one_by_one() -> None:
    made = sizer()
    for _ in range(RECENT):
        made.ran(0.2)
        made.ran(0.00001)
    made.found(MANY)
    assert made.waiting() == 1


def test_many_callers_are_forgotten_after_some_claims_that_find_few() -> None:
    made = sizer()
    for _ in range(CLAIMS_FOR_MANY - 1):
        made.found(0)  # says nothing
        made.found(1)
    assert made.serves_many
    made.found(1)
    assert not made.serves_many


def test_packs_come_from_few_callers() -> None:
    made = sizer(found=0)
    made.ran(0.001, 100)
    made.found(MANY)
    assert not made.serves_many

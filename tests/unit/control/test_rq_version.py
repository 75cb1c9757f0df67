"""Which versions of rq a control process runs with."""

from __future__ import annotations

import pytest

from qmodal.services.control.rq_version import refusal


@pytest.mark.parametrize("found", ["2.8", "2.12.0", "3.0.0", "10.1rc1"])
def test_a_version_that_has_what_it_needs(found: str) -> None:
    assert refusal(found) == ""


@pytest.mark.parametrize("found", ["2.0.0", "2.7.1", "1.16"])
def test_an_older_one_is_named_with_what_to_do(found: str) -> None:
    assert (
        f"this environment has {found}: run `qmodal control` in an environment of its own"
        in refusal(found)
    )


def test_the_one_here_will_do() -> None:
    assert refusal() == ""

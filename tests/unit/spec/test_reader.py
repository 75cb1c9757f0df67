"""Documents that are signed, and stand where another one belongs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from qmodal.spec.documents import PoolSpec, Version
from qmodal.spec.reader import (
    MismatchError,
    check_version_for,
    verified_pool,
    verified_version,
    version_for,
)
from qmodal.wire.signing import Signer, UnknownKeyError

SIGNER, STRANGER = Signer(b"k" * 32), Signer(b"s" * 32)
VERSION = Version(
    app_id="ap-1",
    name="shop",
    environment="main",
    number=3,
    is_ephemeral=False,
    python="3.12",
    bundle=None,
    main=None,
)
POOL = PoolSpec(app_id="ap-1", function="f", label="f()")


def test_what_was_asked_for_is_read() -> None:
    assert verified_pool(POOL.seal(SIGNER), SIGNER, POOL.pool) == POOL
    assert verified_version(VERSION.seal(SIGNER), SIGNER, "ap-1", 3) == VERSION
    assert version_for(VERSION.seal(SIGNER), SIGNER, POOL) == VERSION
    assert version_for(VERSION.seal(SIGNER), SIGNER, replace(POOL, number=3)) == VERSION


def test_a_stranger_signs_nothing() -> None:
    reads: list[Callable[[], object]] = [
        lambda: verified_pool(POOL.seal(STRANGER), SIGNER, POOL.pool),
        lambda: verified_version(VERSION.seal(STRANGER), SIGNER, "ap-1", 3),
        lambda: version_for(VERSION.seal(STRANGER), SIGNER, POOL),
    ]
    for read in reads:
        with pytest.raises(UnknownKeyError):
            read()


@pytest.mark.parametrize(
    "changes",
    [{"function": "g"}, {"app_id": "ap-2"}, {"parameters": b"p"}, {"variant": b"v"}, {"number": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_pool_is_not_described_as_another_one(changes: dict[str, object]) -> None:
    other = replace(POOL, **changes)  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match=rf"{POOL.pool} is described as another one, f\(\)"):
        verified_pool(other.seal(SIGNER), SIGNER, POOL.pool)


@pytest.mark.parametrize(("app_id", "number"), [("ap-1", 2), ("ap-1", 4), ("ap-2", 3)])
def test_a_version_is_not_given_as_another_one(app_id: str, number: int) -> None:
    with pytest.raises(MismatchError, match=f"version {number} of app {app_id} is given as ver"):
        verified_version(VERSION.seal(SIGNER), SIGNER, app_id, number)


@pytest.mark.parametrize("changes", [{"app_id": "ap-2"}, {"number": 2}])
def test_a_pool_runs_no_version_of_another_app_or_than_it_is_pinned_to(
    changes: dict[str, object],
) -> None:
    pool = replace(POOL, **changes)  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match="is given as version 3 of 'shop'"):
        check_version_for(VERSION, pool)
    with pytest.raises(MismatchError):
        version_for(VERSION.seal(SIGNER), SIGNER, pool)

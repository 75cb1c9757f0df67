"""What is remembered of a call that was delivered."""

from __future__ import annotations

import pytest

from qmodal.exception import FunctionTimeoutError, RemoteError, WorkerLost
from qmodal.functions.receipts import read_receipt, receipt_of, status_of
from qmodal.types import InputStatus


@pytest.mark.parametrize(
    ("count", "odd"),
    [
        (0, {}),
        (1, {}),
        (1, {0: InputStatus.FAILURE}),
        (1_000_000, {7: InputStatus.TIMEOUT, 999_999: InputStatus.TERMINATED}),
    ],
)
def test_what_is_told_is_understood(count: int, odd: dict[int, InputStatus]) -> None:
    assert read_receipt(receipt_of(count, odd)) == (count, odd)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("of the program"), InputStatus.FAILURE),
        (SystemExit(1), InputStatus.FAILURE),
        (WorkerLost("three times"), InputStatus.FAILURE),
        (FunctionTimeoutError("300 s"), InputStatus.TIMEOUT),
        (RemoteError("cancelled"), InputStatus.TERMINATED),
    ],
)
def test_an_exception_says_how_the_input_ended(error: BaseException, status: InputStatus) -> None:
    assert status_of(error) is status

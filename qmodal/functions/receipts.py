"""Receipts: what stays of a call whose results were delivered, for the call graph of the input that made it."""

from __future__ import annotations

from collections.abc import Mapping

from qmodal.client.client import Client
from qmodal.exception import FunctionTimeoutError, RemoteError, WorkerLost
from qmodal.store.entries import Submission
from qmodal.transport.operation import Later, Op, ask
from qmodal.types import InputStatus

# Inputs of one call that did not succeed and are remembered one by one.
MOST_NOTED = 1000


def forget(
    client: Client,
    submission: Submission,
    error: BaseException | None = None,
    *,
    blobs: tuple[int, ...] = (),
) -> Op[None]:
    """With the next write, delete a delivered call of one input, which ended like this.

    `blobs`: the inputs whose results are stored apart.
    """
    call = submission.call
    if not submission.parent:
        yield Later(client.calls.forget_command(call, blobs))
        return
    receipt = receipt_of(1, {} if error is None else {0: status_of(error)})
    for command in client.children.forget_commands(
        submission.parent, call, blobs, pool=submission.pool, told=receipt
    ):
        yield Later(command)


def forget_many(client: Client, parent: str, call: str, *, pool: str, receipt: str) -> Op[None]:
    """Delete a delivered map: with the next write, if there is no call graph to see it in."""
    if not parent:
        yield Later(client.calls.forget_command(call))
        return
    # Its outputs were trimmed as they were read, so they tell a graph nothing until this is written.
    yield from ask(*client.children.forget_commands(parent, call, (), pool=pool, told=receipt))


def status_of(error: BaseException) -> InputStatus:
    """How an input ended that raises this at its caller."""
    kind = type(error)  # `isinstance` would ask a property `__class__`, which is user code
    if issubclass(kind, FunctionTimeoutError):
        return InputStatus.TIMEOUT
    if issubclass(kind, RemoteError) and not issubclass(kind, WorkerLost):
        return InputStatus.TERMINATED
    return InputStatus.FAILURE


def receipt_of(count: int, unsuccessful: Mapping[int, InputStatus]) -> str:
    """The text that says how many inputs a call had and which of them did not succeed."""
    return " ".join(
        [str(count), *(f"{index}:{int(status)}" for index, status in unsuccessful.items())]
    )


def read_receipt(text: str) -> tuple[int, dict[int, InputStatus]]:
    """How many inputs the call had, and those that did not succeed."""
    count, *unsuccessful = text.split(" ")
    parts = (each.split(":") for each in unsuccessful)
    return int(count), {int(index): InputStatus(int(status)) for index, status in parts}

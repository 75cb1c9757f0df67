"""A bridge from rq: jobs that are put in line with rq's own client, and are calls of qmodal functions.

    job = queue.enqueue(qmodal.contrib.rq.call, "shop", "make_invoice", 42)
    job.return_value()      # as of any job: an rq worker has waited for the call
    job = queue.enqueue(qmodal.contrib.rq.spawn, "shop", "make_invoice", 42)
    qmodal.contrib.rq.result_of(job)    # waits here, and no rq worker does

Nothing here imports rq: an rq worker that has qmodal installed runs `call` and `spawn` as any job.
"""

from __future__ import annotations

from typing import Any

from qmodal.exception import InvalidError, TimeoutError
from qmodal.functions.call import FunctionCall
from qmodal.functions.function import Function

__all__ = ["call", "call_of", "result_of", "spawn"]


def call(app: str, function: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function of a deployed app and return its result; what it raises, the job fails with.

    The rq worker waits meanwhile. If rq ends the job for its timeout, the call is cancelled.
    """
    return Function.from_name(app, function).remote(*args, **kwargs)


def spawn(app: str, function: str, /, *args: Any, **kwargs: Any) -> str:
    """Start a call and return its id at once, so that the rq worker is free for the next job."""
    return Function.from_name(app, function).spawn(*args, **kwargs).object_id


def call_of(job: Any, *, timeout: float | None = None) -> FunctionCall[Any]:
    """The call that a job of `spawn` has started; waits up to `timeout` seconds for the rq worker to get to it.

    Raises TimeoutError if it did not, InvalidError for a job that has failed, or is none of `spawn`.
    """
    if job.get_status(refresh=True) in ("queued", "started", "scheduled", "deferred"):
        job.latest_result(timeout=_whole(timeout))
    name = job.return_value(refresh=True)
    if isinstance(name, str) and name.startswith("fc-"):
        return FunctionCall.from_id(name)
    if job.is_failed or name is not None:
        raise InvalidError(
            f"rq job {job.id} has started no call: it has failed, or is not of `spawn`."
        )
    raise TimeoutError(f"no rq worker has taken job {job.id} within {timeout} s.")


def result_of(job: Any, *, timeout: float | None = None) -> Any:
    """The result of the call of a `spawn` job, waited for up to `timeout` seconds at each of the two steps.

    What the function has raised is raised. Raises as `call_of`, and TimeoutError if the call takes longer.
    """
    return call_of(job, timeout=timeout).get(timeout=timeout)


def _whole(seconds: float | None) -> int:
    """As rq takes it; it calls 0 not to wait."""
    return 24 * 3600 if seconds is None else max(1, round(seconds))

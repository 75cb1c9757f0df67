"""Jobs of rq as the control plane takes them: signed, plain, and of functions in its own table.

rq itself imports whatever dotted path a job names, and unpickles its arguments, so that whoever can write to the server
could run code. Here a job's data is JSON, its function is looked up in a table, and both are covered by a signature. No
callback, webhook or other name that stands beside them is ever looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from rq.exceptions import DeserializationError
from rq.job import Job

from qmodal.exception import Error
from qmodal.telemetry.events import CONTROL_REFUSED, emit
from qmodal.wire.signing import HEAD, Signer

Task = Callable[..., str | None]
PURPOSE = "job"
_SIGNATURE = "signature"


class RefusedJobError(Error):
    """The job is not one that the control plane has put in line."""


class SignedJob(Job):
    """A job that runs a function of `tasks`, if it was signed with the key of `signer`."""

    signer: ClassVar[Signer]
    tasks: ClassVar[Mapping[str, Task]]

    # Names of functions that rq would import, from fields that are not signed.
    success_callback = failure_callback = stopped_callback = None

    def restore(self, raw_data: Any) -> Any:
        """As rq reads it, without what it would call."""
        super().restore(raw_data)
        self.webhooks = []

    @property
    def func(self) -> Task:
        """The function of the table; raises RefusedJobError."""
        try:
            name, args = self.func_name, list(self.args)
            self.signer.verify(PURPOSE, _head(self.meta) + _body(self.id, name, args))
            if self.kwargs or self.instance is not None:
                raise RefusedJobError("it has more than positional arguments")
            return self.tasks[name or ""]
        except (Error, LookupError, ValueError, TypeError, DeserializationError) as error:
            emit(CONTROL_REFUSED, job=self.id, reason=str(error))
            raise RefusedJobError(f"job {self.id} is not run: {error}") from None


def job_class(signer: Signer, tasks: Mapping[str, Task]) -> type[SignedJob]:
    """The class of jobs that this process runs."""
    return type("ControlJob", (SignedJob,), {"signer": signer, "tasks": tasks})


def signature(signer: Signer, job: str, name: str, args: Sequence[Any]) -> dict[str, str]:
    """What the `meta` of a job holds."""
    return {_SIGNATURE: signer.sign(PURPOSE, _body(job, name, args))[:HEAD].hex()}


def _head(meta: Any) -> bytes:
    return bytes.fromhex(meta[_SIGNATURE])


def _body(job: str, name: str | None, args: Sequence[Any]) -> bytes:
    return json.dumps([job, name, list(args)]).encode()

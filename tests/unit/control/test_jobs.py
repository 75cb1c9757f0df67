"""Jobs of rq: only those that were signed, of functions in the table, and nothing else that stands beside them."""

from __future__ import annotations

import json
import pickle
import zlib
from typing import Any

import pytest
from redis import Redis
from rq.serializers import JSONSerializer

from qmodal.services.control.jobs.signed import RefusedJobError, SignedJob, job_class, signature
from qmodal.wire.signing import Signer

SIGNER = Signer(b"k" * 32)
ran: list[tuple[Any, ...]] = []


def note(*args: Any) -> str:
    ran.append(args)
    return "done"


KIND = job_class(SIGNER, {"note": note})


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


def job_of(name: str = "j1", **changes: Any) -> SignedJob:
    """A job as a worker reads it; `changes` to what was written."""
    fields: dict[str, Any] = {
        "data": zlib.compress(json.dumps(["note", None, ["a", 1], {}]).encode()),
        "meta": json.dumps(signature(SIGNER, "j1", "note", ["a", 1])).encode(),
        **changes,
    }
    made = KIND(name, connection=Redis(), serializer=JSONSerializer)
    made.restore({key.encode(): value for key, value in fields.items()})
    return made


def test_a_signed_job_runs_the_function_of_the_table() -> None:
    assert job_of().perform() == "done"
    assert ran == [("a", 1)]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("j2", {}),
        ("j1", {"meta": b""}),
        ("j1", {"meta": b"[]"}),
        ("j1", {"meta": b'{"signature": "zz"}'}),
        ("j1", {"meta": json.dumps(signature(Signer(b"x" * 32), "j1", "note", ["a", 1])).encode()}),
        ("j1", {"data": json.dumps(["note", None, ["b", 1], {}]).encode()}),
        ("j1", {"data": json.dumps(["os.getcwd", None, [], {}]).encode()}),
        ("j1", {"data": json.dumps(["note", None, ["a", 1], {"more": 1}]).encode()}),
        ("j1", {"data": json.dumps(["note", "instance", ["a", 1], {}]).encode()}),
        ("j1", {"data": b"[]"}),
    ],
)
def test_what_is_not_signed_is_not_run(name: str, changes: dict[str, bytes]) -> None:
    with pytest.raises(RefusedJobError):
        job_of(name, **changes).perform()
    assert ran == []


def test_a_signed_job_of_another_table_is_not_run() -> None:
    meta = json.dumps(signature(SIGNER, "j1", "os.getcwd", [])).encode()
    with pytest.raises(RefusedJobError):
        job_of(data=json.dumps(["os.getcwd", None, [], {}]).encode(), meta=meta).perform()


class Trap:
    """Says that it was unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return note, ("unpickled",)


def test_a_pickle_is_not_opened() -> None:
    trap = pickle.dumps(Trap())
    with pytest.raises(RefusedJobError):
        job_of(data=trap, meta=trap, result=trap).perform()
    assert ran == []


def test_callbacks_and_webhooks_that_somebody_has_written_beside_a_job_are_not_looked_at() -> None:
    names = ("success", "failure", "stopped")
    callbacks: dict[str, Any] = {f"{name}_callback_name": b"os.getcwd" for name in names}
    job = job_of(
        **callbacks,
        webhooks=json.dumps([{"url": "http://localhost:1", "event": "finished"}]).encode(),
    )
    assert [getattr(job, f"{name}_callback") for name in names] == [None, None, None]
    assert job.webhooks == []
    assert job.perform() == "done"

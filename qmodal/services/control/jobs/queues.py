"""The queues of the control plane's jobs, and how a job is put in line once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

from qmodal.services.control.jobs.signed import SignedJob, signature
from qmodal.transport.sockets.opening import CONNECT_SECONDS, keepalive
from qmodal.transport.sockets.redis_versions import with_name_checked, without_notices

# In seconds: a finished job keeps others of its id away; one that nobody takes is worth nothing after a while.
KEEP_DONE, KEEP_FAILED, KEEP_WAITING = 60, 24 * 3600, 300
# What a reply may take. A worker waits a second for a job.
READ_SECONDS = 5


def connect(url: str) -> redis.Redis:
    """A client of the server as rq needs it, which repeats nothing by itself: an rq job is put in line twice by that."""
    kept: dict[str, Any] = (
        {} if url.startswith("unix:") else {"socket_keepalive_options": keepalive()}
    )
    return redis.Redis.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=READ_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        **without_notices(),
        **with_name_checked(url),
        **kept,
    )


class JobQueue:
    """A queue of signed jobs of one class."""

    def __init__(self, name: str, connection: redis.Redis, kind: type[SignedJob]) -> None:
        self._kind = kind
        self.name = name
        self.queue = Queue(
            name, connection=connection, job_class=kind, serializer=JSONSerializer, is_async=True
        )

    def put(self, job: str, task: str, args: Sequence[Any]) -> bool:
        """Put a job in line; False if there is one of that id, in line, under way, or ended just now."""
        made = self.queue.create_job(
            task,
            args=list(args),
            job_id=job,
            description=task,
            meta=signature(self._kind.signer, job, task, args),
            ttl=KEEP_WAITING,
            result_ttl=KEEP_DONE,
            failure_ttl=KEEP_FAILED,
        )
        try:
            # What `enqueue` does without asking for dependencies, and for the queue's name, which take as long again.
            self.queue._enqueue_async_job(made, unique=True)
        except DuplicateJobError:
            return False
        return True

    def announce(self) -> None:
        """Have rq list the queue."""
        self.queue.connection.sadd(self.queue.redis_queues_keys, self.queue.key)

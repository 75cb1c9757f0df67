"""The queues of the control plane's jobs, and how a job is put in line once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from qmodal.services.control.jobs.signed import SignedJob, signature
from qmodal.transport.connection import WATCHED
from qmodal.transport.sockets.opening import CONNECT_SECONDS, keepalive
from qmodal.transport.sockets.sentinel import watch

# In seconds: a finished job keeps others of its id away; one that nobody takes is worth nothing after a while.
KEEP_DONE, KEEP_FAILED, KEEP_WAITING = 60, 24 * 3600, 300
# What a reply may take. A worker waits a second for a job.
READ_SECONDS = 5


def connect(url: str) -> redis.Redis:
    """A client of the server as rq needs it, which repeats nothing by itself: an rq job is put in line twice by that."""
    given: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": READ_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if not url.startswith("unix:"):
        given["socket_keepalive_options"] = keepalive()
    if not url.startswith(WATCHED):
        return redis.Redis.from_url(url, **given)
    seen = watch(url)
    # What the URL says of the servers, as redis-py reads it; where the master is, it asks itself.
    options = {**parse_url(f"redis://{seen.login}localhost?{seen.query}"), **given}
    options.pop("host")
    found: redis.Redis = seen.client().master_for(seen.master, **options)
    return found


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

    def mend(self) -> None:
        """Remove keys of rq that are of another type than rq expects: it would fail at them for ever."""
        queue = self.queue
        registries = (
            queue.finished_job_registry,
            queue.failed_job_registry,
            queue.started_job_registry,
        )
        expected = {
            queue.key: b"list",
            queue.intermediate_queue_key: b"list",
            queue.redis_queues_keys: b"set",
            REDIS_WORKER_KEYS: b"set",
            WORKERS_BY_QUEUE_KEY % queue.name: b"set",
            **{registry.key: b"zset" for registry in registries},
        }
        for key, kind in expected.items():
            if queue.connection.type(key) not in (kind, b"none"):
                queue.connection.unlink(key)

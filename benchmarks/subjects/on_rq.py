"""RQ with its SimpleWorker, which runs jobs in its own process and is the faster of the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis
from rq import Queue

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Blocking, Commands
from benchmarks.tasks import TASKS

QUEUE = "bench"


class Subject(Blocking):
    """`enqueue`, `enqueue_many`, and the blocking wait for a job's result."""

    def commands(self) -> Commands:
        options = ("worker", "--url", settings.URL, "--quiet", "--worker-class", "rq.SimpleWorker")
        return [(*settings.program("rq"), *options, QUEUE)] * settings.WORKERS

    def open(self) -> None:
        self._redis = Redis.from_url(settings.URL, socket_timeout=None)
        self._queue = Queue(QUEUE, connection=self._redis)

    def close(self) -> None:
        self._redis.close()

    def submit(self, task: str, value: Any) -> Any:
        # Without a description it makes one: the text of the arguments, were it 1 MiB.
        return self._queue.enqueue_call(TASKS[task], (value,), description=task)

    def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        prepare, function = Queue.prepare_data, TASKS[task]
        jobs: Sequence[Any] = self._queue.enqueue_many(
            [prepare(function, (value,), description=task) for value in values]
        )
        return jobs

    def result(self, handle: Any) -> Any:
        found = handle.latest_result(timeout=int(RESULT_SECONDS))
        if found is None or found.type != found.Type.SUCCESSFUL:
            raise RuntimeError(f"no result: {found and found.exc_string}")
        return found.return_value

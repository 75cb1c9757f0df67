"""Celery with Redis as broker and result backend; the solo pool, its fastest for one at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from celery import Celery, group

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Blocking, Commands
from benchmarks.tasks import TASKS

app = Celery("bench", broker=settings.URL, backend=settings.URL)
app.conf.update(
    # Its JSON cannot carry bytes.
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle", "json"],
    # Its documentation's advice for many short tasks.
    worker_prefetch_multiplier=1 if settings.FOR_LATENCY else 128,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
registered = {name: app.task(name=name)(function) for name, function in TASKS.items()}


class Subject(Blocking):
    """`delay`, `group` and `get`."""

    def commands(self) -> Commands:
        os.environ["C_FORCE_ROOT"] = "1"
        options = ["-A", "benchmarks.subjects.on_celery:app", "worker", "-P", "solo", "-c", "1"]
        options += ["-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        program = settings.program("celery")
        return [(*program, *options, "-n", f"w{n}@bench") for n in range(settings.WORKERS)]

    def open(self) -> None:
        with app.connection_for_write() as connection:
            app.amqp.queues["celery"].bind(connection.default_channel).declare()

    def submit(self, task: str, value: Any) -> Any:
        return registered[task].delay(value)

    def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        started = group([registered[task].s(value) for value in values]).apply_async()
        results: Sequence[Any] = started.results
        return results

    def result(self, handle: Any) -> Any:
        return handle.get(timeout=RESULT_SECONDS)

    def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        started = group([registered[task].s(value) for value in values]).apply_async()
        found: list[Any] = started.get(timeout=RESULT_SECONDS)
        return found

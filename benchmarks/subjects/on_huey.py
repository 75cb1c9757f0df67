"""Huey on Redis; results are waited for where latency counts, and polled for where it does not."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Blocking, Commands
from benchmarks.tasks import TASKS

# `notify_result` answers at once and halves the throughput.
huey = RedisHuey(
    "bench", host=settings.HOST, port=settings.PORT, notify_result=settings.FOR_LATENCY
)
tasks = {name: huey.task(name=name)(function) for name, function in TASKS.items()}


class Subject(Blocking):
    """Calls of tasks, and `get`."""

    def commands(self) -> Commands:
        options = ("benchmarks.subjects.on_huey.huey", "-w", "1", "-k", "thread", "-q", "-n")
        return [(*settings.program("huey_consumer"), *options)] * settings.WORKERS

    def close(self) -> None:
        huey.storage.conn.close()

    def submit(self, task: str, value: Any) -> Any:
        return tasks[task](value)

    def result(self, handle: Any) -> Any:
        return handle.get(blocking=True, timeout=RESULT_SECONDS)

"""Dramatiq with its Redis broker and Redis results; one thread, which the GIL makes the best."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.encoder import PickleEncoder
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Blocking, Commands
from benchmarks.tasks import TASKS

PREFETCH = "dramatiq_queue_prefetch"
WAIT_MS = int(RESULT_SECONDS * 1000)

# Its JSON cannot carry bytes.
dramatiq.set_encoder(PickleEncoder())
backend = RedisBackend(url=settings.URL, encoder=PickleEncoder())
broker = RedisBroker(url=settings.URL)
broker.add_middleware(Results(backend=backend, store_results=True))
dramatiq.set_broker(broker)
actors = {name: dramatiq.actor(function, actor_name=name) for name, function in TASKS.items()}


class Subject(Blocking):
    """`send`, `group` and `get_result`."""

    def commands(self) -> Commands:
        # How many a thread fetches at once; its default is 2.
        os.environ.update({PREFETCH: "2" if settings.FOR_LATENCY else "256"})
        options = ("benchmarks.subjects.on_dramatiq", "--processes", "1", "--threads", "1")
        program = settings.program("dramatiq")
        return [(*program, *options, "--skip-logging")] * settings.WORKERS

    def close(self) -> None:
        broker.client.close()
        backend.client.close()

    def submit(self, task: str, value: Any) -> Any:
        return actors[task].send(value)

    def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        started = dramatiq.group([actors[task].message(value) for value in values]).run()
        children: Sequence[Any] = started.children
        return children

    def result(self, handle: Any) -> Any:
        return handle.get_result(backend=backend, block=True, timeout=WAIT_MS)

"""qmodal itself: the same echo as an app on a private stack, in one container."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

import qmodal
from qmodal import client
from qmodal.embedded.stack import Stack, start_private
from qmodal.settings import Settings

app = qmodal.App("benchmarks")


@app.function(min_containers=1, max_containers=1)
def echo(value: int) -> int:
    """What it was given."""
    return value


class Subject:
    """The verbs under measurement, under the names that the raw loop has."""

    name = "qmodal"

    def __init__(self) -> None:
        self._spawned: list[qmodal.FunctionCall[int]] = []

    def call(self, value: int) -> int:
        """`.remote()`."""
        return echo.remote(value)

    def submit(self, value: int) -> None:
        """`.spawn()`."""
        self._spawned.append(echo.spawn(value))

    def collect(self, count: int) -> list[int]:
        """What the spawned calls gave."""
        taken, self._spawned = self._spawned[:count], self._spawned[count:]
        return [call.get() for call in taken]

    def map(self, count: int) -> list[int]:
        """`.map()`."""
        return list(echo.map(range(count)))


@contextlib.contextmanager
def private_stack() -> Iterator[Stack]:
    """A server, an autoscaler and a worker for this run, whatever the environment names."""
    settings = Settings.from_environ(os.environ)
    with start_private(settings) as stack:
        before = client.use(
            client.Client(replace(settings, redis_url=stack.url, signing_key=stack.key))
        )
        try:
            yield stack
        finally:
            client.current().close()
            client.use(before)


@contextlib.contextmanager
def subject() -> Iterator[Subject]:
    """The app, running and warm."""
    with app.run():
        running = Subject()
        running.call(0)
        yield running

"""The lifespan of an ASGI app: it starts before the container is ready, and is shut down with the container."""

from __future__ import annotations

import asyncio
from typing import Any

from qmodal.exception import ExecutionError
from qmodal_workers.container.process.forked_children import end_if_child
from qmodal_workers.container.web.asgi_run import App, Event
from qmodal_workers.container.web.scope import VERSIONS

# Exit hooks need some of the time that a container has for its end.
SHUTDOWN_SECONDS = 10.0


class Lifespan:
    """Runs the app once for its lifespan; `state` is what it sets for its requests.

    An app that raises before it has said anything knows no lifespan.
    """

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._answer: asyncio.Future[Event | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    async def start(self) -> None:
        """Return when the app has started; raises what it raises, or ExecutionError."""
        self._task = asyncio.create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            await asyncio.wait([self._task], timeout=1.0)
            if self._error is not None:
                raise self._error
            raise ExecutionError(f"the ASGI app has not started: {answer.get('message', '')}")

    async def stop(self) -> None:
        """Return when the app has shut down; raises ExecutionError if it has failed, or takes too long."""
        if self._task is None or self._task.done():
            return
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                answer = await self._ask("lifespan.shutdown")
                await asyncio.wait([self._task])
        except TimeoutError:
            text = f"the ASGI app has not shut down within {SHUTDOWN_SECONDS:g} s"
            raise ExecutionError(text) from None
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            if self._error is not None:
                raise self._error
            raise ExecutionError(f"the ASGI app has not shut down: {answer.get('message', '')}")

    async def _ask(self, kind: str) -> Event | None:
        """The app's answer; None if it has ended without one."""
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": kind})
        return await self._answer

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {**VERSIONS, "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._events.get, self._take)
        except BaseException as error:
            end_if_child(error)
            self._error = error
        else:
            end_if_child()
        finally:
            self._tell(None)

    async def _take(self, event: Event) -> None:
        self._tell(event)

    def _tell(self, event: Event | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(event)

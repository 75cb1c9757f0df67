"""Threads in which plain user code runs; they end with the process, whatever runs in them."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class UserThreads:
    """Runs calls in threads, at first in one that has nothing to do, and tells the loop what came of them.

    The standard pool would be waited for at exit, and a thread of user code may never end.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Context, Callable[[], Any], Callable[..., None]]]
        self._work = queue.SimpleQueue()
        self._free = 0  # threads that wait for work; changed by the loop's thread only

    async def run(self, work: Callable[[], T]) -> T:
        """What it returns in a thread, in a copy of the caller's context; raises whatever it raises."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()

        def tell(result: Any, error: BaseException | None) -> None:
            self._free += 1
            if ended.cancelled():
                return
            if error is None:
                ended.set_result(result)
            else:
                ended.set_exception(_RaisedError(error))

        if self._free > 0:
            self._free -= 1
        else:
            threading.Thread(target=self._serve, name="input", daemon=True).start()

        def tell_loop(result: Any, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(tell, result, error)

        self._work.put((copy_context(), work, tell_loop))
        try:
            return await ended
        except _RaisedError as raised:
            raise raised.error from None

    def _serve(self) -> None:
        while True:
            context, work, tell = self._work.get()
            try:
                result = context.run(work)
            except BaseException as error:
                tell(None, error)
            else:
                tell(result, None)
            del context, work, tell


class _RaisedError(Exception):
    """What was raised there; a future refuses StopIteration, and takes a CancelledError for its own."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(type(error)))
        self.error = error

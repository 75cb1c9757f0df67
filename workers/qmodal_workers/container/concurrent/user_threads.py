"""Where plain user code runs: in threads, or on the main thread between two rounds of the loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, TypeVar

from qmodal.wire.remote_error import printed
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.process.own_output import show
from qmodal_workers.container.run.user_loop import UserLoop

T = TypeVar("T")


class UserThreads:
    """Runs calls in threads, at first in one that has nothing to do, and tells the loop what came of them.

    The standard pool would be waited for at exit, and a thread of user code may never end.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Context, Callable[[], Any], Callable[..., None]]]
        self._work = queue.SimpleQueue()
        self._free = 0  # threads that wait for work; changed by the loop's thread only

    async def run(self, group: Group, work: Callable[[], T]) -> T:
        """What it returns in a thread, in a copy of the caller's context; raises whatever it raises."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()

        def tell(result: Any, error: BaseException | None) -> None:
            self._free += 1
            _tell(ended, result, error)

        def tell_loop(result: Any, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(tell, result, error)

        if self._free > 0:
            self._free -= 1
        else:
            threading.Thread(target=self._serve, name="input", daemon=True).start()
        self._work.put((copy_context(), work, tell_loop))
        return await _told(group, ended)

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


class MainThread:
    """Runs the loop on the main thread, and what needs that for itself while the loop stands still.

    Within the loop plain user code could not run a loop of its own, and would be told that it blocks one.
    """

    def __init__(self, user_loop: UserLoop) -> None:
        self._user_loop = user_loop
        self._work: deque[Callable[[], None]] = deque()
        self._is_over = False
        self._is_busy = False

    def serve(self) -> None:
        """Run the loop until `end`, whatever user code's own tasks raise, and even if it stops the loop."""
        loop = self._user_loop.get_loop()
        while not self._is_over:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                show(printed(error))
            while self._work:
                self._is_busy = True
                self._work.popleft()()
                self._is_busy = False

    def end(self) -> None:
        """By the loop: it is over. Later the loop runs for exit hooks, which nothing may stop."""
        if not self._is_over:
            self._is_over = True
            self._user_loop.get_loop().stop()

    async def run(self, group: Group, work: Callable[[], T]) -> T:
        """What it returns on the main thread, in a copy of the caller's context; raises what it raises."""
        context = copy_context()
        ended: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def perform() -> None:
            try:
                result = context.run(work)
            except BaseException as error:
                _tell(ended, None, error)
            else:
                _tell(ended, result, None)

        self._work.append(perform)
        if not self._is_busy:  # else user code runs the loop, and comes to its end
            asyncio.get_running_loop().stop()
        return await _told(group, ended)


class _RaisedError(Exception):
    """What was raised there; a future refuses StopIteration, and takes a CancelledError for its own."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(type(error)))
        self.error = error


def _tell(ended: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(result)
    else:
        ended.set_exception(_RaisedError(error))


async def _told(group: Group, ended: asyncio.Future[T]) -> T:
    """What was told; user code that cancels all tasks it finds ends nothing that runs elsewhere."""
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            if group.is_over:
                raise
    try:
        return ended.result()
    except _RaisedError as raised:
        raise raised.error from None

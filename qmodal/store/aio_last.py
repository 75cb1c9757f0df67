"""An operation that has to be carried out although whoever asked for it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from qmodal.exception import Error
from qmodal.store.exchange import Effect, Reply

Carry = Callable[[Effect], Awaitable[list[Reply]]]


class Last:
    """An operation in a task of its own, which ends with it or after `seconds`.

    A loop that ends cancels every task, also those that clean up already: what is interrupted like
    that is asked for again. How it went is not said.
    """

    def __init__(self, carry: Carry, op: Generator[Any, list[Reply], Any], seconds: float) -> None:
        self._carry = carry
        self._op = op
        self._is_begun = False
        self._is_late = False
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        # The loop keeps a timer, and with it the task: it knows tasks only weakly.
        self._timer = loop.call_later(seconds, self._give_up)
        self._begin()

    async def wait(self) -> None:
        """Until it has ended; raises CancelledError if only who waits is cancelled."""
        await asyncio.shield(self._ended)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._end)

    async def _run(self) -> None:
        self._is_begun = True
        with contextlib.suppress(Error, StopIteration):
            step = next(self._op)
            while not self._is_late:
                try:
                    replies = await self._carry(step)
                except asyncio.CancelledError:
                    continue
                except Error as error:
                    step = self._op.throw(error)
                else:
                    step = self._op.send(replies)
        self._op.close()

    def _end(self, _task: asyncio.Task[None]) -> None:
        if not self._is_begun and not self._is_late:  # cancelled before its first step
            self._begin()
            return
        self._timer.cancel()
        if not self._ended.done():
            self._ended.set_result(None)

    def _give_up(self) -> None:
        self._is_late = True
        self._task.cancel()

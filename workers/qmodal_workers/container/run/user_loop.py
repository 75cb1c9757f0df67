"""The event loop of a container: made when user code first needs one, and kept."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from contextvars import Context, copy_context
from typing import Any, Protocol

from qmodal_workers.container.process.forked_children import end_if_child
from qmodal_workers.container.process.signals import Waker
from qmodal_workers.container.run.slot import Slot


class Finisher(Protocol):
    """Waits for what user code has returned."""

    def finish(self, value: Any, context: Context | None = None) -> Any:
        """The value itself, or what it resolves to in that context if it is awaitable."""


class UserLoop:
    """Awaits what user code returns, always in the same loop; `slot.task` is what it awaits now.

    Signals wake the loop: their handlers cancel what it awaits.
    """

    __slots__ = ("_runner", "_waker", "slot")

    def __init__(self, slot: Slot | None = None) -> None:
        self._runner: asyncio.Runner | None = None
        self._waker: Waker | None = None
        self.slot = slot or Slot()

    @property
    def runner(self) -> asyncio.Runner:
        """What keeps the loop."""
        if self._runner is None:
            self._runner = asyncio.Runner()
            self._waker = Waker(self._runner.get_loop())
            self._waker.arm()
        return self._runner

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        return self.runner.get_loop()

    def finish(self, value: Any, context: Context | None = None) -> Any:
        """The value itself, or what it resolves to in that context if it is awaitable."""
        if not inspect.isawaitable(value):
            return value
        try:
            result, error = self.runner.run(self._ended(value), context=context or copy_context())
        except BaseException:  # of another task: SystemExit and KeyboardInterrupt end all
            if self.slot.task is not None:
                self.slot.task.cancel()
            raise
        try:
            if error is not None:
                raise error
        finally:
            del error  # it refers to this frame
        return result

    def finish_here(self, value: Any) -> Any:
        """As `finish`, but the context variables that it sets stay set, as those of a plain function do."""
        context = copy_context()
        result = self.finish(value, context)
        for variable, now in context.items():
            if variable.get(context) is not now:
                variable.set(now)
        return result

    async def _ended(self, value: Awaitable[Any]) -> tuple[Any, BaseException | None]:
        """Its result, or its exception as a value: asyncio would read the `__class__` of a raised one."""
        task = self.slot.task = asyncio.current_task()
        try:
            result = await value
        except BaseException as error:
            end_if_child(error)
            return None, error
        else:
            # Before the loop goes on, which a forked child shares with its parent.
            end_if_child()
            return result, None
        finally:
            if self.slot.task is task:
                self.slot.task = None

    def cancel(self) -> bool:
        """From a signal handler: cancel what is being awaited; False if nothing is."""
        task = self.slot.task
        if task is None:
            return False
        task.get_loop().call_soon_threadsafe(task.cancel)
        return True

    def arm(self) -> None:
        """Let signals wake the loop, if there is one, also if user code has undone that meanwhile."""
        if self._waker is not None:
            self._waker.arm()

    def disarm(self) -> None:
        """In a process that user code has forked: no signal is about the loop there."""
        if self._waker is not None:
            self._waker.disarm()

    def close(self) -> None:
        """Close the loop, if there is one."""
        if self._runner is not None:
            self._runner.close()
        if self._waker is not None:
            self._waker.close()

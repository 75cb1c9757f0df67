"""Drive a user's generator to its end: as a function it returns how many items it has produced."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from qmodal.exception import InputCancellation, InputTimeout, InvalidError
from qmodal_workers.container.process.forked_children import end_if_child
from qmodal_workers.container.run.interrupts import Interruptible
from qmodal_workers.container.run.item_sender import ABANDON_SECONDS, ItemSender
from qmodal_workers.container.run.user_loop import Finisher

_UNFINISHED = frozenset({GeneratorType, AsyncGeneratorType, CoroutineType})
_INTERRUPTIONS = (InputTimeout, InputCancellation, asyncio.CancelledError)


@dataclass(frozen=True, slots=True)
class GeneratorDriver:
    """A callable with the parameters of the generator function `raw`."""

    raw: Callable[..., Any]
    sender: ItemSender
    loop: Finisher
    interrupts: Interruptible

    def __call__(self, /, *args: Any, **kwargs: Any) -> int:
        """Run it; raises what it raises once its items are on the server."""
        try:
            self._run(self.raw(*args, **kwargs))
        except BaseException as error:
            end_if_child(error)
            if not self._is_interrupted(error):
                self.sender.finish()
            raise
        else:
            end_if_child()
            self.sender.finish()
        finally:
            self.sender.stop()
        return self.sender.count

    async def aio(self, /, *args: Any, **kwargs: Any) -> int:
        """As a call, for a generator whose loop has other things to do meanwhile."""
        moved, loop = asyncio.Event(), asyncio.get_running_loop()
        self.sender.wake_with(lambda: _set(loop, moved))
        try:
            made = self.raw(*args, **kwargs)
            if inspect.isawaitable(made):
                made = await made
            if not isinstance(made, AsyncIterator):
                raise unexpected(made)
            await self._drain_aio(made, moved)
        except BaseException as error:
            end_if_child(error)
            if not self._is_interrupted(error):
                await self._finish_aio(moved)
            raise
        else:
            end_if_child()
            await self._finish_aio(moved)
        finally:
            await self._stop_aio(moved)
        return self.sender.count

    async def _stop_aio(self, moved: asyncio.Event) -> None:
        """As `ItemSender.stop`, while the others go on; not in a pool, which user code may have filled."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ABANDON_SECONDS):
                await self._until_sent(moved)
        self.sender.stop(0.0)

    async def _finish_aio(self, moved: asyncio.Event) -> None:
        await self._until_sent(moved)
        self.sender.finish()

    async def _until_sent(self, moved: asyncio.Event) -> None:
        while self.sender.is_sending:
            moved.clear()
            if self.sender.is_sending:
                await moved.wait()

    def _is_interrupted(self, error: BaseException) -> bool:
        """Whether it is not the generator's own; what its reader leaves no room for is dropped then."""
        kind = type(error)
        is_aimed = self.interrupts.is_aimed and issubclass(kind, _INTERRUPTIONS)
        return is_aimed or issubclass(kind, KeyboardInterrupt)

    def _run(self, made: Any) -> None:
        if inspect.isawaitable(made):
            made = self.loop.finish(made)
        if isinstance(made, AsyncIterator):
            self.loop.finish(self._drain_alone(made))
        elif isinstance(made, Iterator):
            self._drain(made)
        else:
            raise unexpected(made)

    def _drain(self, items: Iterator[Any]) -> None:
        try:
            for item in items:
                end_if_child()
                self.sender.put(item)
                self.sender.wait()
                self.sender.check()
        finally:
            # Its `finally` blocks run now, while its input is still current.
            close = getattr(items, "close", None)
            if close is not None:
                close()

    async def _drain_alone(self, items: AsyncIterator[Any]) -> None:
        moved, loop = asyncio.Event(), asyncio.get_running_loop()
        self.sender.wake_with(lambda: _set(loop, moved))
        await self._drain_aio(items, moved)

    async def _drain_aio(self, items: AsyncIterator[Any], moved: asyncio.Event) -> None:
        try:
            async for item in items:
                end_if_child()
                self.sender.put(item)
                while self.sender.must_wait:
                    moved.clear()
                    if self.sender.must_wait:
                        await moved.wait()
                self.sender.resume()
                self.sender.check()
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()


def unexpected(made: Any) -> InvalidError:
    """The error for what is no generator."""
    return InvalidError(
        f"The function is declared as a generator and returned a {type(made).__name__}; "
        "leave out `is_generator=True`, or return a generator."
    )


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop was closed: the container is about to end
        loop.call_soon_threadsafe(event.set)


def refuse_unexpected(function: Callable[..., Any], value: object) -> None:
    """Raise InvalidError if a plain function has returned what has not run yet."""
    if type(value) not in _UNFINISHED or inspect.iscoroutinefunction(function):
        return
    if inspect.iscoroutine(value):
        value.close()
        hint = "declare the function with `async def`, or run the coroutine in it"
    else:
        hint = "declare it with `is_generator=True` and call it with `.remote_gen(...)`"
    name = getattr(function, "__qualname__", type(function).__name__)
    raise InvalidError(f"{name} returned a {type(value).__name__} unexpectedly; {hint}.")

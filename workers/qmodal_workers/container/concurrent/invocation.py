"""Runs the user code of a group: in a task, in a thread, or on the main thread if that has nothing else to do."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qmodal.client import context
from qmodal.exception import DeserializationError, ExecutionError, InputCancellation
from qmodal.telemetry.tracing import is_on
from qmodal.wire.outcome import Result
from qmodal.wire.payload import Arguments
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.concurrent.interrupts import ConcurrentInterrupts, GroupInterrupts
from qmodal_workers.container.concurrent.user_threads import MainThread, UserThreads
from qmodal_workers.container.process.forked_children import end_if_child
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.batcher import BatchedFunction
from qmodal_workers.container.run.code import CodeFinder
from qmodal_workers.container.run.generator import GeneratorDriver, refuse_unexpected
from qmodal_workers.container.run.input_spans import InputSpans
from qmodal_workers.container.run.invoker import INTERRUPTIONS, Invoker
from qmodal_workers.container.run.service import is_async
from qmodal_workers.container.run.user_loop import Finisher, UserLoop


class _ThreadFinisher:
    """What a plain function returns is awaited in the container's loop, and its thread waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def finish(self, value: Any, context: Context | None = None) -> Any:
        """The value itself, or what it resolves to in that context if it is awaitable."""
        end_if_child()  # its loop runs in the parent only
        if not inspect.isawaitable(value):
            return value
        own = context or copy_context()
        return own.run(asyncio.run_coroutine_threadsafe, _awaited(value), self._loop).result()


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


@dataclass(slots=True, kw_only=True)
class Invocation:
    """Runs groups, each with an invoker of its own made of `invoker`.

    `is_alone`: one group runs at a time, so plain user code may have the main thread, and what it
    returns is awaited in `user_loop`.
    """

    invoker: Invoker
    finder: CodeFinder
    interrupts: ConcurrentInterrupts
    user_loop: UserLoop
    main: MainThread
    is_alone: bool
    spans: InputSpans
    threads: UserThreads = field(default_factory=UserThreads)
    _batched: dict[str, BatchedFunction] = field(default_factory=dict)
    _kinds: dict[str, bool] = field(default_factory=dict)
    _finisher: Finisher | None = None

    async def run(self, group: Group) -> list[Result]:
        """What became of each input; raises Preempted and Outdated for all of them."""
        head = group.first.envelope.head
        context.enter((head.call, group.first.envelope.first))
        invoker = self._invoker_of(group)
        if not is_on():
            return await self._results(group, invoker)
        with self.spans.begin(group.attempts) as span:
            results = await self._results(group, invoker)
            span.took(results)
        return results

    async def _results(self, group: Group, invoker: Invoker) -> list[Result]:
        try:
            return await self._run(group, invoker)
        except ExecutionError as error:  # there is no such method
            return [invoker.unknown(error)] * len(group.attempts)
        except Exception as error:  # no thread can be started, or the like
            return [invoker.failure(error)] * len(group.attempts)

    def _invoker_of(self, group: Group) -> Invoker:
        if self._finisher is None:
            loop = asyncio.get_running_loop()
            self._finisher = self.user_loop if self.is_alone else _ThreadFinisher(loop)
        return self.invoker.of(GroupInterrupts(group.slot, self.interrupts), self._finisher)

    async def _run(self, group: Group, invoker: Invoker) -> list[Result]:
        if self._is_async(group.first.envelope.head.method):
            return await self._in_task(group, invoker)
        group.place = "main" if self.is_alone else "thread"
        elsewhere = self.main.run if self.is_alone else self.threads.run
        return await elsewhere(group, lambda: self._here(group, invoker))

    def _is_async(self, method: str) -> bool:
        found = self._kinds.get(method)
        if found is None:
            found = self._kinds[method] = is_async(self.finder.service.find(method))
        return found

    def _batch(self, method: str) -> BatchedFunction | None:
        """The batched function of that name; None for a method that is called for each input."""
        if method not in self.finder.service.batched:
            return None
        if method not in self._batched:
            self._batched[method] = BatchedFunction(self.finder.service.find(method))
        return self._batched[method]

    def _here(self, group: Group, invoker: Invoker) -> list[Result]:
        batched = self._batch(group.first.envelope.head.method)
        if batched is None:
            return [invoker.invoke(group.first, self._find(invoker))]
        batch = _Batch(group, invoker, batched)
        if not batch.inputs:
            return batch.results
        try:
            returned = invoker.call(batched.function, (), batch.lists())
            end_if_child()
            batch.take(returned)
        except BaseException as error:
            batch.fail(invoker.failure(error))
        return batch.results

    async def _in_task(self, group: Group, invoker: Invoker) -> list[Result]:
        """In the task of the group, which is cancelled if it is to stop."""
        batched = self._batch(group.first.envelope.head.method)
        if batched is None:
            return [await self._in_task_alone(group, invoker)]
        batch = _Batch(group, invoker, batched)
        if not batch.inputs:
            return batch.results
        try:
            batch.take(await self._await(group, invoker, batched.function, (), batch.lists()))
        except BaseException as error:
            batch.fail(invoker.failure(error))
        return batch.results

    async def _in_task_alone(self, group: Group, invoker: Invoker) -> Result:
        try:
            args, kwargs = invoker.rebuilt(group.first)
            function = self._find(invoker)(group.first)
        except (DeserializationError, ExecutionError) as error:
            return invoker.unknown(error, group.first.claimed)
        except INTERRUPTIONS as error:
            return invoker.failure(error, group.first.claimed)
        call = function.aio if isinstance(function, GeneratorDriver) else function
        try:
            value = await self._await(group, invoker, call, args, kwargs)
            refuse_unexpected(call, value)
            form, content = invoker.dumped(value)
        except BaseException as error:
            return invoker.failure(error, group.first.claimed)
        return "value", form, content

    async def _await(
        self,
        group: Group,
        invoker: Invoker,
        function: Callable[..., Any],
        args: Any,
        kwargs: dict[str, Any],
    ) -> Any:
        slot = group.slot
        # From here on a cancel reaches user code; one that came before is raised by `listen`.
        slot.task = asyncio.current_task()
        try:
            invoker.interrupts.listen()
            value = await function(*args, **kwargs)
        finally:
            slot.task, slot.is_open = None, False
        end_if_child()
        return value

    def _find(self, invoker: Invoker) -> Callable[[Attempt], Callable[..., Any]]:
        return partial(self.finder.find, invoker=invoker)


class _Batch:
    """A batch on its way: `inputs` are the arguments of those that have no result yet."""

    def __init__(self, group: Group, invoker: Invoker, batched: BatchedFunction) -> None:
        self._invoker = invoker
        self._batched = batched
        self.inputs: list[Arguments] = []
        self._places: list[int] = []
        self._results: list[Result | None] = []
        for row, attempt in zip(group.rows, group.attempts, strict=True):
            # One that was cancelled while the batch was put together does not start with the others.
            is_cancelled = row in group.cancelled
            cancelled = invoker.failure(InputCancellation()) if is_cancelled else None
            self._results.append(cancelled or self._rebuild(attempt))

    def _rebuild(self, attempt: Attempt) -> Result | None:
        """Whose arguments cannot be rebuilt fails alone: the others' are whole."""
        try:
            arguments = self._invoker.rebuilt(attempt)
        except DeserializationError as error:
            return self._invoker.unknown(error)
        except INTERRUPTIONS as error:
            return self._invoker.failure(error)
        self._places.append(len(self._results))
        self.inputs.append(arguments)
        return None

    def lists(self) -> dict[str, list[Any]]:
        """The arguments of the batched function; raises TypeError."""
        return self._batched.lists(self.inputs)

    def take(self, returned: Any) -> None:
        """The function has returned that; raises InvalidError if it is no list of as many."""
        values = self._batched.parted(returned, len(self.inputs))
        for place, value in zip(self._places, values, strict=True):
            try:
                form, content = self._invoker.dumped(value)
            except BaseException as error:  # this one's only
                self._results[place] = self._invoker.failure(error)
            else:
                self._results[place] = ("value", form, content)

    def fail(self, result: Result) -> None:
        """All that have no result yet have failed in the same way."""
        self._results = [result if each is None else each for each in self._results]

    @property
    def results(self) -> list[Result]:
        """One for each input."""
        return [each for each in self._results if each is not None]

"""A container in the process of the caller, without a server: eager mode of `qmodal.testing` runs inputs with it.

It finds, runs and judges user code as other containers do, with the same classes. What it has not is a worker:
nothing interrupts an input, so there are neither time limits nor cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from contextvars import Context
from typing import Any

from qmodal.client import context
from qmodal.exception import UnimplementedError
from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.variant import options_in_force
from qmodal.store.entries import Claimed
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import Result
from qmodal.wire.payload import dump_value
from qmodal.wire.remote_error import printed
from qmodal_workers.container.process.own_output import show
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.batcher import BatchedFunction
from qmodal_workers.container.run.generator import unexpected
from qmodal_workers.container.run.invoker import Invoker, Preempted
from qmodal_workers.container.run.service import Service, build_service
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.run.user_loop import UserLoop

NO_WEB = "eager mode serves no web functions: call the function itself, or use the fixture `qmodal_stack`."
_END = object()


class Uninterrupted:
    """Inputs that nothing stops from outside."""

    is_preempted = False
    is_aimed = False

    def __init__(self, slot: Slot) -> None:
        self.slot = slot

    def listen(self) -> None:
        """Nothing has come."""

    def listen_on(self) -> None:
        """Nothing has come."""


class UnsignalledLoop(UserLoop):
    """A loop that signals need not wake, so it may be made and used in any thread, one at a time."""

    __slots__ = ()

    @property
    def runner(self) -> asyncio.Runner:
        """What keeps the loop."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner


class EagerContainer:
    """Runs one input at a time of one pool; the constructor runs the enter hooks and raises what they raise."""

    def __init__(
        self, spec: FunctionSpec, pool: PoolSpec, found: Any, *, name: str, plain_only: bool
    ) -> None:
        options = options_in_force(spec, pool)
        if options.recorded.get("web"):
            raise UnimplementedError(NO_WEB)
        self._loop = UnsignalledLoop()
        self._plain_only = plain_only
        # As in another process: of the caller's variables user code sees none, and those of its hooks.
        self._context = Context()
        self._service = self._context.run(self._started, spec, pool, found)
        self._invoker = Invoker(
            container=name,
            function=pool.label,
            most=1 if options.retries is None else 1 + options.retries.max_retries,
            plain_only=plain_only,
            timeout=float(options.timeout),
            loop=self._loop,
            interrupts=Uninterrupted(self._loop.slot),
            has_newer_code=lambda: False,
        )

    def _started(self, spec: FunctionSpec, pool: PoolSpec, found: Any) -> Service:
        service = build_service(spec, pool, found, self._loop)
        service.enter(self._loop)
        return service

    def run(self, claimed: Claimed, envelope: Envelope, payload: bytes) -> Result:
        """The result of an input; raises KeyboardInterrupt if that came meanwhile."""
        attempt = Attempt(claimed, envelope, payload)
        return self._context.copy().run(self._run, attempt)

    def _run(self, attempt: Attempt) -> Result:
        context.enter((attempt.envelope.call, attempt.envelope.first))
        try:
            return self._invoker.invoke(attempt, self._find)
        except Preempted as stop:
            raise KeyboardInterrupt from stop

    def _find(self, attempt: Attempt) -> Callable[..., Any]:
        method = attempt.envelope.head.method
        found = self._service.find(method)
        return alone(found) if method in self._service.batched else found

    def items(
        self, claimed: Claimed, envelope: Envelope, payload: bytes
    ) -> Generator[Result, None, Result]:
        """The items of an input of a generator, made as they are asked for; returns the result of the input."""
        attempt, own = Attempt(claimed, envelope, payload), self._context.copy()
        own.run(context.enter, (envelope.call, envelope.first))
        count = 0
        try:
            with closing(self._made(attempt, own)) as made:
                for item in made:
                    form, content = dump_value(item, plain_only=self._plain_only)
                    yield "value", form, content
                    count += 1
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            return self._invoker.failure(error, claimed)
        return "value", *dump_value(count, plain_only=self._plain_only)

    def _made(self, attempt: Attempt, own: Context) -> Generator[Any, None, None]:
        args, kwargs = self._invoker.rebuilt(attempt)
        function = self._service.find(attempt.envelope.head.method)
        made = self._loop.finish(own.run(function, *args, **kwargs), own)
        if isinstance(made, AsyncIterator):
            return self._drain(lambda: self._loop.finish(_next(made), own), self._closer(made, own))
        if isinstance(made, Iterator):
            return self._drain(lambda: own.run(next, made, _END), self._closer(made, own))
        raise unexpected(made)

    def _closer(self, made: Any, own: Context) -> Callable[[], Any]:
        if isinstance(made, AsyncIterator):
            close = getattr(made, "aclose", None)
            return lambda: None if close is None else self._loop.finish(close(), own)
        close = getattr(made, "close", None)
        return lambda: None if close is None else own.run(close)

    def _drain(
        self, step: Callable[[], Any], close: Callable[[], Any]
    ) -> Generator[Any, None, None]:
        try:
            while (item := step()) is not _END:
                yield item
        finally:
            close()

    def close(self) -> None:
        """Run the exit hooks; what they raise is printed, as by other containers."""
        try:
            self._context.run(self._service.leave, self._loop)
        except Exception as error:
            show(printed(error))
        finally:
            self._loop.close()


async def _next(made: AsyncIterator[Any]) -> Any:
    return await anext(made, _END)


def alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """A batched function that is called with one input at a time, as lists of one."""
    batched = BatchedFunction(function)

    def plain(*args: Any, **kwargs: Any) -> Any:
        return batched.parted(function(**batched.lists([(args, kwargs)])), 1)[0]

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return batched.parted(await function(**batched.lists([(args, kwargs)])), 1)[0]

    return awaited if batched.is_async else plain

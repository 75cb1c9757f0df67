"""Eager mode: a client whose operations find calls and pools in memory, and no server."""

from __future__ import annotations

import asyncio
import contextvars
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.client.process import state
from qmodal.client.waiting.said import Waits
from qmodal.config import Settings
from qmodal.exception import UnimplementedError
from qmodal.testing.apps import EagerApps
from qmodal.testing.memory import EagerCalls, EagerItems, EagerPools, Memory
from qmodal.transport.connection import Address
from qmodal.transport.driver import BlockingDriver
from qmodal.transport.operation import CarriedError, Exchange, Op, Reply
from qmodal.transport.sharing.reply_reader import ReplyReader

T = TypeVar("T")
# Of the right form, and nobody is asked for it.
NOWHERE = "unix:///qmodal-eager"
NEEDS_SERVER = (
    "Eager mode runs calls in this process and has no server, which this needs: use the fixture `qmodal_stack`, "
    "or leave `qmodal.testing.eager()`."
)


class EagerDriver(BlockingDriver):
    """Drives operations that ask no server; raises UnimplementedError for others."""

    def exchange(self, request: Exchange) -> list[Reply]:
        """Refuse it."""
        raise UnimplementedError(NEEDS_SERVER)

    def reply_reader(self) -> ReplyReader | None:
        """There is none."""
        return None


class SilentWaits(Waits):
    """Nothing is said of calls that wait: another thread runs them."""

    def look(self, pool: str) -> Op[None]:
        """Look at nothing."""
        yield from ()


class EagerClient(Client):
    """A client without a server."""

    def __init__(self, settings: Settings) -> None:
        key = secrets.token_bytes(32)
        super().__init__(replace(settings, redis_url=NOWHERE, signing_key=key, packing=False))
        self.apps_here = EagerApps(self.signer)
        self.memory = Memory(self.apps_here)

    @cached_property
    def blocking(self) -> BlockingDriver:
        """The driver of the plain verbs."""
        return EagerDriver(Address(NOWHERE), self._later)

    @cached_property
    def calls(self) -> EagerCalls:
        """Operations on calls."""
        return EagerCalls(self.keys, self.memory)

    @cached_property
    def items(self) -> EagerItems:
        """What generators produce."""
        return EagerItems(self.keys, self.memory)

    @cached_property
    def pools(self) -> EagerPools:
        """Operations on pools."""
        kept = self.settings.failed_arguments
        return EagerPools(self.keys, kept, memory=self.memory, client=self)

    @cached_property
    def waits(self) -> Waits:
        """What is said of calls that wait."""
        return SilentWaits("", self.fleet, self.boxes, self.observing)

    def run(self, op: Op[T]) -> T:
        """Drive an operation; in another thread, if a loop runs in this one, as user code may need its own."""
        self._later.clear()
        if not _is_in_loop():
            return self.blocking.run(op)
        with ThreadPoolExecutor(1) as pool:
            run = contextvars.copy_context().run
            return pool.submit(run, self.blocking.run, op).result()

    async def aio(self, op: Op[T]) -> T:
        """Drive an operation in a thread, so that calls that are awaited together run together."""
        result, error = await asyncio.to_thread(self.blocking.run, _ended(op))
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    async def aclose(self) -> None:
        """There is nothing to close."""

    def close(self) -> None:
        """End what runs."""
        self._later.clear()
        self.memory.close()


def _ended(op: Op[T]) -> Op[tuple[T | None, BaseException | None]]:
    """Its result, or its error as a value: a future cannot carry each of them."""
    try:
        return (yield from op), None
    except CarriedError as carried:
        return None, carried.substitute
    except BaseException as error:
        return None, error


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def eager_mode() -> Iterator[None]:
    """Calls run in this process meanwhile; within another such block nothing changes."""
    if state.eager is not None:
        yield
        return
    client = EagerClient(Settings.from_environ(os.environ))
    before = clients.use(client)
    state.eager = client.apps_here
    try:
        yield
    finally:
        client.close()
        state.eager = None
        clients.use(before)

"""Ephemeral objects: they last as long as a `with` block, and not much longer than a process that was killed in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import WRAPPER_ASSIGNMENTS
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from qmodal.client.client import Client, current
from qmodal.exception import Error
from qmodal.resources.manager import remove
from qmodal.resources.stored import StoredObject
from qmodal.store.objects.names import PROLONG_SECONDS, ObjectRecord
from qmodal.transport.defects import survive
from qmodal.transport.operation import Op

T = TypeVar("T", bound=StoredObject)
P = ParamSpec("P")
R = TypeVar("R")


class EphemeralContext(Generic[T]):
    """`with Dict.ephemeral() as d:` and `async with Dict.ephemeral() as d:`; for one block."""

    def __init__(self, kind: type[T], environment: str | None) -> None:
        self._class = kind
        self._environment = environment
        self._owner: _Owner | None = None

    def _made(self) -> Op[ObjectRecord]:
        client = current()
        environment = self._environment or client.settings.environment
        return (yield from client.object_names.create_ephemeral(self._class._kind, environment))

    def _own(self, client: Client, record: ObjectRecord) -> T:
        self._owner = _Owner(client, record)
        return self._class._handle(record.object_id, None)

    def _left(self) -> _Owner | None:
        owner, self._owner = self._owner, None
        return owner if owner is not None and owner.is_here else None

    def __enter__(self) -> T:
        client = current()
        return self._own(client, client.run(self._made()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        owner = self._left()
        if owner is not None:
            owner.stop()
            with suppress(
                Error
            ):  # what the block raised says more, and the object goes by itself soon
                owner.client.run(owner.removal())

    async def __aenter__(self) -> T:
        client = current()
        return self._own(client, await client.aio(self._made()))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        owner = self._left()
        if owner is not None:
            from asyncio import to_thread  # plain programs have no use for it

            await to_thread(owner.stop)
            with suppress(Error):  # as above
                await owner.client.aio(owner.removal())


class _Owner:
    """Tells the server, from a thread, that the owner of an ephemeral object lives."""

    def __init__(self, client: Client, record: ObjectRecord) -> None:
        self.client = client
        self._record = record
        self._pid = os.getpid()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether this process is the owner, and not a child that was forked from it."""
        return self._pid == os.getpid()

    def stop(self) -> None:
        """No more heartbeats."""
        self._stopped.set()
        self._thread.join()

    def removal(self) -> Op[None]:
        """Delete the object."""
        return remove(self.client, self._record.kind, self._record.object_id)

    def _beat(self) -> None:
        store = self.client.dicts if self._record.kind == "dict" else self.client.queues
        is_there = True
        while is_there and not self._stopped.wait(PROLONG_SECONDS):
            # The next one may get through: the object lasts for six of them.
            with survive("the heartbeat of an ephemeral object"), suppress(Error):
                op = store.prolong(self._record.object_id, patience=PROLONG_SECONDS / 4)
                is_there = self.client.blocking.run(op)


class Twin(Generic[P, R]):
    """A function whose result is for plain and for async code; `aio` is there for whoever asks for it."""

    __wrapped__: Callable[..., Any]

    def __init__(self, function: Callable[P, R]) -> None:
        vars(self).update({name: getattr(function, name) for name in WRAPPER_ASSIGNMENTS})
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it."""
        made: R = self.__wrapped__(*args, **kwargs)
        return made

    # The same: what it returns has both forms itself.
    aio = __call__

"""The web functions of a pool: their apps are made at the start of a container, and end with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from qmodal.client.client import Client
from qmodal.exception import InvalidError
from qmodal.spec.parameters import ParameterSpec
from qmodal.spec.web import WebSpec
from qmodal.store.entries import Claimed
from qmodal.wire.envelope import Head
from qmodal_workers.container.web.apps.lifespan import Lifespan
from qmodal_workers.container.web.apps.needed import imported
from qmodal_workers.container.web.apps.web_server import check_free, until_listening
from qmodal_workers.container.web.asgi_run import App, Delivery, Interrupted
from qmodal_workers.container.web.handler import WebHandler
from qmodal_workers.container.web.stream import Streams
from qmodal_workers.container.web.under_way import UnderWay

Handle = Callable[[bytes], Coroutine[Any, Any, bytes]]
End = Callable[[], Coroutine[Any, Any, None]]


class Loop(Protocol):
    """The loop of user code."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself."""

    def finish(self, value: Any) -> Any:
        """What the awaitable resolves to, once the loop has run that far."""


class WebFunctions:
    """The web functions by method name; `threads`: how many requests a container may have at once."""

    def __init__(
        self, specs: Mapping[str, WebSpec], parameters: Sequence[ParameterSpec], threads: int
    ) -> None:
        self.specs = specs
        self._parameters = parameters
        self._threads = threads
        self._handlers: dict[str, WebHandler] = {}
        self._ends: list[End] = []
        self._keeper: asyncio.Task[None] | None = None

    @property
    def needs_loop(self) -> bool:
        """Whether user code's loop has to run between requests, too: for what apps do by themselves."""
        return any(spec.kind != "fastapi_endpoint" for spec in self.specs.values())

    def check(self, loop: Loop) -> None:
        """Before user code may start servers: raise ExecutionError if one of their ports is taken."""
        for spec in self.specs.values():
            if spec.kind == "web_server":
                loop.finish(check_free(spec.port))

    def start(self, callables: dict[str, Callable[..., Any]], client: Client, loop: Loop) -> None:
        """Make the apps of these functions, put handlers in their places, and start them.

        Raises what user code raises, and ExecutionError for a package that is missing.
        """
        streams, under_way = Streams(client), UnderWay(client)
        self._ends.append(streams.close)
        for name, spec in self.specs.items():
            app, state = self._app(callables[name], spec, loop)
            handler = WebHandler(app, state, streams, under_way)
            self._handlers[name], callables[name] = handler, handler.handle

    def _app(
        self, function: Callable[..., Any], spec: WebSpec, loop: Loop
    ) -> tuple[App, Mapping[str, Any]]:
        """The app, which has started, and what its lifespan has set."""
        if spec.kind == "fastapi_endpoint":
            from qmodal_workers.container.web.apps.fastapi_app import fastapi_app

            app = fastapi_app(function, spec, self._parameters)
            self._keep_threads(loop)
            return app, {}
        made = function()
        if spec.kind == "web_server":
            return self._proxy(loop.finish(until_listening(spec)), spec, loop), {}
        if not callable(made):
            raise InvalidError(
                f"The function of `@modal.{spec.kind}` must return an app, and has returned {made!r}."
            )
        if spec.kind == "wsgi_app":
            from qmodal_workers.container.web.apps.wsgi import wsgi_app

            return wsgi_app(made, self._threads), {}
        self._keep_threads(loop)
        lifespan = Lifespan(made)
        self._ends.append(lifespan.stop)
        loop.finish(lifespan.start())
        return made, lifespan.state

    def _proxy(self, host: str, spec: WebSpec, loop: Loop) -> App:
        imported("aiohttp")  # else a clear word about it
        from qmodal_workers.container.web.apps.proxy import Proxy

        async def made() -> Proxy:
            return Proxy(host, spec.port)

        proxy: Proxy = loop.finish(made())
        self._ends.append(proxy.close)
        return proxy

    def _keep_threads(self, loop: Loop) -> None:
        """Let anyio's threads, in which frameworks run plain functions, live as long as the loop.

        They end with the task that anyio takes for the root of all: the one for which the loop was run when the first
        thread was needed. Without one that stays, that is the task of a request, and each has to start threads anew.
        """
        if "anyio" not in sys.modules or self._keeper is not None:
            return
        running = loop.get_loop()
        self._keeper = keeper = running.create_task(_root(self._threads))
        with suppress(RuntimeError):  # it stops the loop, and stays
            running.run_until_complete(keeper)

    def bound(self, head: Head, claimed: Claimed, container: str, slot: Interrupted) -> Handle:
        """What that delivery of an input runs; `slot` says whether it is to stop."""
        entry = f"{claimed.lane}-{claimed.entry}"
        delivery = Delivery(head.call, container, entry, claimed.lost, slot)
        return partial(self._handlers[head.method].handle, delivery)

    def stop(self, loop: Loop) -> None:
        """Shut the apps down, the last one first; raises what the last failure raises."""
        if self._ends:
            try:
                loop.finish(self._ends.pop()())
            finally:
                self.stop(loop)


async def _root(threads: int) -> None:
    import anyio.to_thread

    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = max(limiter.total_tokens, threads)
    await anyio.to_thread.run_sync(int)
    loop = asyncio.get_running_loop()
    loop.stop()
    await loop.create_future()

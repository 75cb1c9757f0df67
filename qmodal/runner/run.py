"""RunContext: an app that runs for the length of a `with` block, kept alive by a heartbeat."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qmodal.client import client as clients, context, process
from qmodal.client.client import Client
from qmodal.client.notebook import is_notebook
from qmodal.config import Settings
from qmodal.exception import InvalidError, UnimplementedError
from qmodal.output import screen as output
from qmodal.runner.deploy import DeployResult, deploy
from qmodal.runner.gateway import declares_web, gateway_ready, start_gateway
from qmodal.runner.heartbeat import Heartbeat
from qmodal.runner.publish import is_typed_in, publish
from qmodal.runner.renewal import Renewal
from qmodal.runner.shortage import say_impossible
from qmodal.spec.documents import Version
from qmodal.spec.registry import AppLike
from qmodal.store.apps import AppRecord, AppState

if TYPE_CHECKING:
    from types import TracebackType

    from qmodal.embedded.stack import Stack

A = TypeVar("A", bound=AppLike)
INTERACTIVE = (
    "qmodal has no interactive mode, as its containers have no terminal: call the function with "
    "`.local()` to look into it."
)

T = TypeVar("T")


@contextmanager
def ensure_server(
    settings: Settings | None = None, private: Stack | None = None
) -> Iterator[Client]:
    """A client of the server to use; without any, a private one for the length of the block.

    `private`: the stack of that server, if this process has started it.
    """
    current = clients.use(None)
    if current is not None:
        clients.use(current)
        yield current
        return
    settings = clients.resolve(settings or Settings.from_environ(os.environ))
    with ExitStack() as stack:
        if settings.redis_url is None:
            from qmodal.embedded.stack import start_private

            private = stack.enter_context(start_private(settings))
            settings = private.settings
        client = Client(settings, stack=private)
        clients.use(client)
        try:
            yield client
        finally:
            client.close()
            clients.use(None)


class RunContext(Generic[A]):
    """`with app.run():` and `async with app.run():`."""

    def __init__(
        self,
        app: A,
        *,
        name: str | None,
        detach: bool,
        environment: str | None,
        interactive: bool = False,
    ) -> None:
        if interactive:
            raise UnimplementedError(INTERACTIVE)
        self._app = app
        self._name = name
        self._state: AppState = "detached" if detach else "ephemeral"
        self._environment = environment
        self._stack = ExitStack()
        self._pid = 0

    def __enter__(self) -> A:
        app = self._app
        if context.is_importing():
            raise InvalidError(
                "app.run() cannot be called in global scope: the module is being imported. "
                "Put it under `if __name__ == '__main__':` or into a local entrypoint."
            )
        if process.state.eager is not None:
            return app  # there is nothing to start, and no server
        if app._registry.version is not None:
            raise InvalidError("App is already running and can't be started again.")
        with ExitStack() as stack:
            client = stack.enter_context(ensure_server())
            self._start(client, stack)
            self._stack = stack.pop_all()
            self._pid = os.getpid()
        process.state.runs[id(self)] = self
        return app

    def _start(self, client: Client, stack: ExitStack) -> None:
        registry = self._app._registry
        name = self._name or registry.name or default_name()
        environment = self._environment or client.settings.environment
        gateway = start_gateway(client, has_web=declares_web(registry))
        publishing = publish(
            client, registry, name=name, environment=environment, state=self._state
        )
        version = client.run(publishing).version
        registry.description = name
        is_typed = is_typed_in(registry)
        by_reference = version.main is not None
        registry.attach(version, main_by_reference=by_reference, is_pinned=is_typed)
        stack.callback(registry.attach, None)
        follower = None
        if output.is_enabled():
            follower = stack.enter_context(output.showing(client, version.app_id))
        stack.callback(self._stop, client, version)
        heartbeat = Heartbeat(client, version.app_id, version.number, self._state)
        stack.enter_context(heartbeat)
        if is_typed:
            renewal = Renewal(client, registry, self._state, heartbeat, follower)
            stack.enter_context(renewal.active())
        if gateway:
            client.run(gateway_ready(client))
        client.run(say_impossible(client, version))

    def _stop(self, client: Client, version: Version) -> None:
        if self._state == "detached":
            client.run(client.apps.detach(version.app_id))
        else:
            client.run(client.apps.stop(record_of(version, self._state)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        process.state.runs.pop(id(self), None)
        stack = self._stack.pop_all()
        if self._pid != os.getpid():
            return False  # a forked child leaves the block; the app is its parent's
        stack.__exit__(kind, error, traceback)
        # Ctrl-C is the ordinary way to end an app; it is not the program's failure. But a cell that were
        # interrupted and seemed to succeed would have the next one run, without what this one should have made.
        return kind is KeyboardInterrupt and not is_notebook()

    async def __aenter__(self) -> A:
        entering = _start_in_thread(self.__enter__)
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            # The thread goes on: what it begins would run for as long as the program.
            await _wait_for(entering)
            if entering.exception() is None:
                await _wait_for(_start_in_thread(self.__exit__, None, None, None))
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        current = clients.known()
        try:
            if current is not None:
                await current.aclose()
        finally:
            leaving = _start_in_thread(self.__exit__, kind, error, traceback)
            await _wait_for(leaving)
        return leaving.result()


def _start_in_thread(act: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Start it in a thread; no task, so that a loop that ends does not cancel it."""
    run = contextvars.copy_context().run
    return asyncio.get_running_loop().run_in_executor(None, run, act, *arguments)


async def _wait_for(acting: asyncio.Future[Any]) -> None:
    """Wait for it to end, also if this task is cancelled meanwhile; raises CancelledError afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not acting.done():
        try:
            await asyncio.wait({acting})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def record_of(version: Version, state: AppState) -> AppRecord:
    """The record of an app that was published just now."""
    return AppRecord(
        app_id=version.app_id,
        name=version.name,
        environment=version.environment,
        state=state,
        version=version.number,
    )


def default_name() -> str:
    """The name of an app without one: its program's file."""
    return Path(sys.argv[0] or "python").name


def run_app(
    app: A,
    *,
    name: str | None = None,
    client: Any = None,
    detach: bool = False,
    environment_name: str | None = None,
    interactive: bool = False,
    deployment_strategy: str = "rolling",
    stream_output: bool = True,
) -> RunContext[A]:
    """`app.run(...)` as a function."""
    return RunContext(
        app,
        name=name,
        detach=detach,
        environment=environment_name,
        interactive=interactive,
    )


def deploy_app(
    app: AppLike,
    name: str | None = None,
    *,
    environment_name: str | None = None,
    tag: str = "",
    deployment_strategy: str = "rolling",
    client: Any = None,
) -> DeployResult:
    """`app.deploy(...)` as a function; says what was published."""
    op = deploy(app, name, environment_name, tag=tag, strategy=deployment_strategy)
    return clients.current().run(op)

"""The client: settings, signing key and connections of one process, and how operations run."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from qmodal.exception import ConfigurationError
from qmodal.packing import Learned
from qmodal.settings import Settings
from qmodal.store.keys import Keys
from qmodal.wire.signing import Signer

if TYPE_CHECKING:
    import asyncio

    from qmodal.store.aio import Asynchronous
    from qmodal.store.apps import Apps
    from qmodal.store.blocking import Blocking
    from qmodal.store.calls import Calls
    from qmodal.store.children import Children
    from qmodal.store.exchange import Command, Op
    from qmodal.store.fleet import Fleet
    from qmodal.store.items import Items
    from qmodal.store.logs import Logs
    from qmodal.store.observing import Observing
    from qmodal.store.pools import Pools

T = TypeVar("T")
NO_SERVER = (
    "there is no Redis to talk to: set QMODAL_REDIS_URL, or start `qmodal up` on this machine, "
    "or run the program with `qmodal run` or inside `with app.run():`."
)


class Client:
    """One server as one process sees it; `settings` must name a server and a key.

    `is_checked`: somebody has made sure already that the server is one to trust calls to.
    """

    def __init__(self, settings: Settings, *, is_checked: bool = False) -> None:
        if settings.redis_url is None or settings.signing_key is None:
            raise ConfigurationError(NO_SERVER)
        self.settings = settings
        self.keys = Keys(settings.prefix)
        self.signer = Signer(settings.signing_key)
        self.learned = Learned()
        self._loops: dict[asyncio.AbstractEventLoop, Asynchronous] = {}
        self._of_parents: list[object] = []
        self._pid = os.getpid()
        self._is_checked = is_checked

    @cached_property
    def blocking(self) -> Blocking:
        """The driver of the plain verbs."""
        from qmodal.store.blocking import Blocking
        from qmodal.store.line import Address

        return Blocking(Address(self.settings.redis_url or ""))

    @cached_property
    def calls(self) -> Calls:
        """Operations on calls."""
        from qmodal.store.calls import Calls

        return Calls(self.keys)

    @cached_property
    def children(self) -> Children:
        """Which calls inputs made."""
        from qmodal.store.children import Children

        return Children(self.keys)

    @cached_property
    def items(self) -> Items:
        """What generators produce."""
        from qmodal.store.items import Items

        return Items(self.keys)

    @cached_property
    def pools(self) -> Pools:
        """Operations on pools."""
        from qmodal.store.pools import Pools

        return Pools(self.keys)

    @cached_property
    def observing(self) -> Observing:
        """Looks at pools."""
        from qmodal.store.observing import Observing

        return Observing(self.keys)

    @cached_property
    def fleet(self) -> Fleet:
        """Operations on boxes."""
        from qmodal.store.fleet import Fleet

        return Fleet(self.keys)

    @cached_property
    def apps(self) -> Apps:
        """Operations on apps."""
        from qmodal.store.apps import Apps

        return Apps(self.keys)

    @cached_property
    def logs(self) -> Logs:
        """What containers print."""
        from qmodal.store.logs import Logs

        return Logs(self.keys)

    def run(self, op: Op[T]) -> T:
        """Drive an operation on a blocking connection."""
        if not self._is_checked:
            self.blocking.run(self._check())
            self._is_checked = True
        return self.blocking.run(op)

    async def aio(self, op: Op[T]) -> T:
        """Drive an operation on an asyncio connection of the running loop."""
        driver = self._driver()
        if not self._is_checked:
            await driver.run(self._check())
            self._is_checked = True
        return await driver.run(op)

    def _check(self) -> Op[None]:
        from qmodal.store.server import check_server

        signer = self.signer
        return check_server(self.keys, key_id=signer.key_id.hex(), fingerprint=signer.fingerprint)

    def _driver(self) -> Asynchronous:
        import asyncio

        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            # The sockets are the parent's. To collect them would close its loops' transports.
            self._of_parents.append(self._loops)
            self._loops, self._pid = {}, os.getpid()
        driver = self._loops.get(loop)
        if driver is None:
            if not self._loops:
                # redis-py complains, once the interpreter ends, of each connection it finds open.
                atexit.register(self._leave_closed_loops)
            self._leave_closed_loops()
            from qmodal.store.aio import Asynchronous
            from qmodal.store.line import Address

            driver = self._loops[loop] = Asynchronous(Address(self.settings.redis_url or ""))
        return driver

    def _leave_closed_loops(self) -> None:
        """A driver holds its loop, so nothing else would ever end the connections of a closed one."""
        for loop, driver in list(self._loops.items()):
            if loop.is_closed():
                del self._loops[loop]
                for command in driver.abandon():
                    self.blocking.later(command)

    def later(self, command: Command) -> None:
        """Send a command along with some later write of the blocking driver."""
        self.blocking.later(command)

    def close(self) -> None:
        """Send what was put off and close the blocking connections."""
        self.blocking.close()

    async def aclose(self) -> None:
        """Close the asyncio connections of the running loop."""
        driver = self._loops.pop(__import__("asyncio").get_running_loop(), None)
        if driver is not None:
            await driver.close()


_lock = threading.Lock()
_current: Client | None = None


def current() -> Client:
    """The process's client, made from the environment on first use; raises ConfigurationError."""
    global _current
    if _current is None:
        with _lock:
            if _current is None:
                _current = Client(resolve(Settings.from_environ(os.environ)))
    return _current


def known() -> Client | None:
    """The process's client, if there is one yet."""
    return _current


def current_for(find: Callable[[], Op[Any]]) -> Client:
    """The process's client for an operation; what that refuses by itself goes before a missing server.

    A program that forgot `app.run()` as a rule has no server either, and should hear of the former.
    """
    try:
        return current()
    except ConfigurationError as reason:
        missing = reason
    for _exchange in find():
        break
    raise missing


def is_plain_only() -> bool:
    """Whether this process may neither send nor open pickles; also before there is a client."""
    settings = Settings.from_environ(os.environ) if _current is None else _current.settings
    return settings.payloads == "plain"


def use(client: Client | None) -> Client | None:
    """Make this the process's client; returns the one before."""
    global _current
    before, _current = _current, client
    return before


def resolve(settings: Settings) -> Settings:
    """Settings with a server and a key: as set, else those of a running `qmodal up`."""
    from qmodal.embedded.discover import discovered

    return discovered(settings)

"""The client: settings, signing key and connections of one process, and how operations run."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from qmodal.client import process
from qmodal.client.process import state
from qmodal.config import Settings, redacted
from qmodal.exception import ConfigurationError
from qmodal.spec.pack_size import PackTimes
from qmodal.store.keys import Keys
from qmodal.wire.publishing import Publisher, complete
from qmodal.wire.signing import Signer

if TYPE_CHECKING:
    from qmodal.client.waiting.said import Waits
    from qmodal.embedded.stack import Stack
    from qmodal.spec.reader import SpecReader
    from qmodal.store.apps import Apps
    from qmodal.store.calls import Calls, Children
    from qmodal.store.fleet import Fleet
    from qmodal.store.history.chores import Chores
    from qmodal.store.history.leftovers import Leftovers
    from qmodal.store.history.logs import Logs
    from qmodal.store.history.statistics import Statistics
    from qmodal.store.history.usage import Usage
    from qmodal.store.objects.dicts import Dicts
    from qmodal.store.objects.names import ObjectNames
    from qmodal.store.objects.queues import Queues
    from qmodal.store.objects.schedules import Schedules
    from qmodal.store.objects.secrets import Secrets
    from qmodal.store.pools import Pools
    from qmodal.store.results.arguments import KeptArguments
    from qmodal.store.results.dead import DeadLetters
    from qmodal.store.results.failures import Failures
    from qmodal.store.results.items import Items
    from qmodal.store.results.kept import KeptCalls
    from qmodal.store.watch.boxes import Boxes
    from qmodal.store.watch.observing import Observing
    from qmodal.store.web.gateways import Gateways
    from qmodal.store.web.routes import Routes
    from qmodal.store.web.tokens import Tokens
    from qmodal.transport.driver import BlockingDriver
    from qmodal.transport.loops import Loops
    from qmodal.transport.operation import Command, Op

T = TypeVar("T")
NO_SERVER = (
    "there is no Redis to talk to: set QMODAL_REDIS_URL, or start `qmodal up` on this machine, "
    "or run the program with `qmodal run` or inside `with app.run():`."
)


class Client:
    """One server as one process sees it; `settings` must name a server and a key.

    `is_checked`: somebody has made sure already that the server is one to trust calls to. `stack`:
    the private one that this process has started, if the server is its own.
    """

    def __init__(
        self, settings: Settings, *, is_checked: bool = False, stack: Stack | None = None
    ) -> None:
        if settings.redis_url is None or settings.signing_key is None:
            raise ConfigurationError(NO_SERVER)
        self.settings = complete(settings)
        self.keys = Keys(settings.prefix)
        self.signer = Signer(settings.signing_key)
        self.publisher = Publisher(
            self.signer.key_id, self.settings.publishing_key, self.settings.publishers
        )
        self.learned = PackTimes()
        # What all drivers put off: whichever writes next takes it along.
        self._later: deque[Command] = deque()
        self._of_parents: list[Loops] = []
        self.is_checked = is_checked
        self.stack = stack
        process.add(self)

    @cached_property
    def blocking(self) -> BlockingDriver:
        """The driver of the plain verbs."""
        from qmodal.transport.connection import Address
        from qmodal.transport.driver import BlockingDriver

        made = BlockingDriver(Address(self.settings.redis_url or ""), self._later)
        # Threads may get here at the same time; the first of them is who has made it.
        return self.__dict__.setdefault("blocking", made)  # type: ignore[no-any-return]

    @cached_property
    def loops(self) -> Loops:
        """The drivers of the verbs' asyncio forms."""
        from qmodal.transport.connection import Address
        from qmodal.transport.loops import Loops

        made = Loops(Address(self.settings.redis_url or ""), self._later)
        return self.__dict__.setdefault("loops", made)  # type: ignore[no-any-return]

    @cached_property
    def calls(self) -> Calls:
        """Operations on calls."""
        from qmodal.store.calls import Calls

        return Calls(self.keys)

    @cached_property
    def children(self) -> Children:
        """Which calls inputs made."""
        from qmodal.store.calls import Children

        return Children(self.keys)

    @cached_property
    def items(self) -> Items:
        """What generators produce."""
        from qmodal.store.results.items import Items

        return Items(self.keys)

    @cached_property
    def failures(self) -> Failures:
        """Notes of inputs that have failed."""
        from qmodal.store.results.failures import Failures

        return Failures(self.keys)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """Entries that no container will run."""
        from qmodal.store.results.dead import DeadLetters

        return DeadLetters(self.keys)

    @cached_property
    def kept_arguments(self) -> KeptArguments:
        """Arguments of failed inputs that are stored apart."""
        from qmodal.store.results.arguments import KeptArguments

        return KeptArguments(self.keys)

    @cached_property
    def kept_calls(self) -> KeptCalls:
        """Which calls have records."""
        from qmodal.store.results.kept import KeptCalls

        return KeptCalls(self.keys)

    @cached_property
    def pools(self) -> Pools:
        """Operations on pools."""
        from qmodal.store.pools import Pools

        return Pools(self.keys, self.settings.failed_arguments)

    @cached_property
    def observing(self) -> Observing:
        """Looks at pools."""
        from qmodal.store.watch.observing import Observing

        return Observing(self.keys)

    @cached_property
    def boxes(self) -> Boxes:
        """What boxes offer, and whether they are cordoned."""
        from qmodal.store.watch.boxes import Boxes

        return Boxes(self.keys)

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
    def routes(self) -> Routes:
        """Which web function a name leads to."""
        from qmodal.store.web.routes import Routes

        return Routes(self.keys, self.signer)

    @cached_property
    def gateways(self) -> Gateways:
        """Which gateways serve web functions."""
        from qmodal.store.web.gateways import Gateways

        return Gateways(self.keys, self.signer)

    @cached_property
    def tokens(self) -> Tokens:
        """Who may call protected web functions."""
        from qmodal.store.web.tokens import Tokens

        return Tokens(self.keys, self.signer)

    @cached_property
    def schedules(self) -> Schedules:
        """What is noted of schedules."""
        from qmodal.store.objects.schedules import Schedules

        return Schedules(self.keys)

    @cached_property
    def chores(self) -> Chores:
        """How chores of the control plane went."""
        from qmodal.store.history.chores import Chores

        return Chores(self.keys)

    @cached_property
    def leftovers(self) -> Leftovers:
        """Keys whose owners are gone."""
        from qmodal.store.history.leftovers import Leftovers

        return Leftovers(self.keys)

    @cached_property
    def usage(self) -> Usage:
        """Statistics by the day."""
        from qmodal.store.history.usage import Usage

        return Usage(self.keys)

    @cached_property
    def secrets(self) -> Secrets:
        """Secrets that are stored by name."""
        from qmodal.store.objects.secrets import Secrets

        return Secrets(self.keys, self.signer)

    @cached_property
    def specs(self) -> SpecReader:
        """Specs of pools and versions of apps, verified."""
        from qmodal.spec.reader import SpecReader

        return SpecReader(self.pools.spec, self.apps, self.keys.apps, self.signer, self.publisher)

    @cached_property
    def logs(self) -> Logs:
        """What containers print."""
        from qmodal.store.history.logs import Logs

        return Logs(self.keys)

    @cached_property
    def statistics(self) -> Statistics:
        """What was counted of functions."""
        from qmodal.store.history.statistics import Statistics

        return Statistics(self.keys)

    @cached_property
    def object_names(self) -> ObjectNames:
        """What programs keep by name."""
        from qmodal.store.objects.names import ObjectNames

        return ObjectNames(self.keys, self.signer)

    @cached_property
    def dicts(self) -> Dicts:
        """Entries of dictionaries."""
        from qmodal.store.objects.dicts import Dicts

        return self.__dict__.setdefault("dicts", Dicts(self.keys))  # type: ignore[no-any-return]

    @cached_property
    def queues(self) -> Queues:
        """Items of queues."""
        from qmodal.store.objects.queues import Queues

        return self.__dict__.setdefault("queues", Queues(self.keys, self.signer))  # type: ignore[no-any-return]

    @property
    def server(self) -> str:
        """The URL of its server, as it may be shown."""
        return redacted(self.settings.redis_url or "")

    @cached_property
    def waits(self) -> Waits:
        """What is said of calls that wait."""
        from qmodal.client.waiting.said import Waits

        waits = Waits(self.server, self.fleet, self.boxes, self.observing)
        return self.__dict__.setdefault("waits", waits)  # type: ignore[no-any-return]

    def run(self, op: Op[T]) -> T:
        """Drive an operation on a blocking connection."""
        if not self.is_checked:
            self.blocking.run(self._check())
            self.is_checked = True
        return self.blocking.run(op)

    async def aio(self, op: Op[T]) -> T:
        """Drive an operation on an asyncio connection of the running loop."""
        driver = self.loops.driver()
        if not self.is_checked:
            await driver.run(self._check())
            self.is_checked = True
        return await driver.run(op)

    def _check(self) -> Op[None]:
        from qmodal.store.server import check_server

        signer = self.signer
        return check_server(self.keys, key_id=signer.key_id.hex(), fingerprint=signer.fingerprint)

    def later(self, command: Command) -> None:
        """Send a command along with some later write."""
        self._later.append(command)

    def close(self) -> None:
        """Send what was put off and close the blocking connections."""
        if self._later or "blocking" in self.__dict__:
            self.blocking.close()

    async def aclose(self) -> None:
        """Close the asyncio connections of the running loop."""
        await self.loops.close()

    def finish(self) -> None:
        """The process ends: close all connections but those of loops that still run elsewhere."""
        if "loops" in self.__dict__:
            self.loops.leave_closed(with_idle=True)
        self.close()

    def after_fork(self) -> None:
        """In the child: what was put off is the parent's, and so are the loops."""
        self._later.clear()
        for name in ("dicts", "queues"):  # their writers are the parent's
            self.__dict__.pop(name, None)
        if (blocking := self.__dict__.get("blocking")) is not None:
            blocking.after_fork()
        if (loops := self.__dict__.pop("loops", None)) is not None:
            loops.leave_all()
            # To collect TLS connections would take them from the parent's loop, too.
            self._of_parents.append(loops)


def current() -> Client:
    """The process's client, made from the environment on first use; raises ConfigurationError."""
    if state.client is None:
        with process.making:
            if state.client is None:
                state.client = Client(resolve(Settings.from_environ(os.environ)))
    found: Client = state.client
    return found


def known() -> Client | None:
    """The process's client, if there is one yet."""
    found: Client | None = state.client
    return found


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
    client = known()
    settings = Settings.from_environ(os.environ) if client is None else client.settings
    return settings.payloads == "plain"


def use(client: Client | None) -> Client | None:
    """Make this the process's client; returns the one before."""
    before = known()
    state.client = client
    return before


def resolve(settings: Settings) -> Settings:
    """Settings with a server and a key: as set, else those of a running `qmodal up`."""
    from qmodal.client.discovery import discovered

    return discovered(settings)

"""The templates of a worker: one per app version and environment, and a blank one to be next."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

from qmodal_workers.forks import Template, UnusableError
from qmodal_workers.nursery import Nursery
from qmodal_workers.pipes import Pipes
from qmodal_workers.planning import Plan, StartError

IDLE_SECONDS = 600.0
SPARE_DELAY = 0.5
Key = tuple[str, int, frozenset[tuple[str, str]]]


class Templates:
    """Starts templates when they are needed, and ends them when they are not."""

    def __init__(
        self, environ: Mapping[str, str], pipes: Pipes, nursery: Nursery | None = None
    ) -> None:
        self._environ = environ
        self._nursery = nursery
        self._pipes = pipes
        self._names = itertools.count(1)
        self._spare: Template | None = None
        self._by_key: dict[Key, Template] = {}
        self._unsafe: dict[Key, str] = {}
        self._ended: list[Template] = []
        self._later: asyncio.TimerHandle | None = None

    @property
    def pids(self) -> set[int]:
        """The processes of all templates, and the one that they come from."""
        own = {template.process.pid for template in self._all()}
        return own if self._nursery is None else {*own, self._nursery.pid}

    def _all(self) -> list[Template]:
        spare = [self._spare] if self._spare else []
        return [*self._by_key.values(), *spare, *self._ended]

    def prepare(self) -> None:
        """Have a blank template ready: the imports that every container needs are done in it."""
        self._later = None
        if sys.platform == "linux" and (self._spare is None or self._spare.is_dead):
            name = f"template-{next(self._names)}"
            self._spare = Template(name, self._environ, self._pipes, self._nursery)

    async def fork(self, plan: Plan, start: Callable[[Template], Awaitable[int]]) -> int:
        """A container's pid from `start(template)`; raises UnusableError or StartError."""
        key = _key(plan)
        self._check(key, plan)
        template = self._take(key)
        try:
            await template.load(plan)
        except UnusableError as error:
            if not template.is_dead:
                self._unsafe[key] = str(error)
            self._discard(key)
            raise
        except StartError:
            # The next start may find the outage over that made the import fail.
            self._discard(key)
            raise
        return await start(template)

    def _check(self, key: Key, plan: Plan) -> None:
        if sys.platform != "linux":
            raise UnusableError("templates need Linux")
        if not plan.options.fork:
            raise UnusableError("it says fork=False")
        if key in self._unsafe:
            raise UnusableError(self._unsafe[key])

    def _take(self, key: Key) -> Template:
        found = self._by_key.get(key)
        if found is None or found.is_dead:
            self._discard(key)
            self.prepare()
            assert self._spare is not None
            found, self._spare = self._spare, None
            self._by_key[key] = found
            # The next spare must not compete with this first start.
            self._later = asyncio.get_running_loop().call_later(SPARE_DELAY, self.prepare)
        return found

    def _discard(self, key: Key) -> None:
        template = self._by_key.pop(key, None)
        if template is not None:
            template.close()
            self._ended.append(template)

    def tidy(self, used: set[tuple[str, int]]) -> None:
        """End those that were idle for long, unless containers of that (app, version) run."""
        now = time.monotonic()
        for key, template in list(self._by_key.items()):
            if key[:2] in used:
                template.used = now
            elif template.is_dead or now - template.used > IDLE_SECONDS:
                self._discard(key)
        self._ended = [each for each in self._ended if each.process.poll() is None]

    def pump(self) -> None:
        """Take in what all of them have said."""
        for template in self._all():
            template.pump()

    def close(self) -> None:
        """End all."""
        if self._later is not None:
            self._later.cancel()
        for template in self._all():
            template.close()
            template.process.wait()
        if self._nursery is not None:
            self._nursery.close()


def _key(plan: Plan) -> Key:
    return plan.spec.app_id, plan.version.number, frozenset(plan.environ.items())

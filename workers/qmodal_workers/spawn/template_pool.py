"""The templates of a worker: one per app version and environment, forked from a zygote where there is one."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from qmodal_workers.ipc.process_marks import ProcessMark, ProcessMarks
from qmodal_workers.ipc.start_request import StartRequest
from qmodal_workers.output.pipes import Pipes
from qmodal_workers.spawn.bounded_dict import BoundedDict
from qmodal_workers.spawn.fork_safety import why_too_late
from qmodal_workers.spawn.start_plan import StartError, StartPlan
from qmodal_workers.spawn.template_client import TemplateClient, UnusableError
from qmodal_workers.spawn.zygote import Zygote

# A template without containers that was not forked for this long is ended, unless it is one of those that are kept.
IDLE_TEMPLATE_SECONDS = 600.0
# The same for a pool's template, sooner because it holds what its hooks have loaded.
IDLE_WARM_TEMPLATE_SECONDS = 120.0
SPARE_DELAY_SECONDS = 0.5


class Key(NamedTuple):
    """What a template is for: a version with variables, or one of its pools; `sealed` are the values of its secrets."""

    app: str
    number: int
    pool: str  # empty for a version's template
    variables: frozenset[tuple[str, ...]]
    sealed: tuple[bytes, ...]

    @property
    def version(self) -> tuple[str, int]:
        """The app and the number of the version."""
        return self.app, self.number


class TemplatePool:
    """All templates of a worker; starts them when they are needed, ends them when they are not.

    Of the current versions of deployed apps it keeps as many as `kept`, those that were forked last, for as long as the
    apps are deployed: the first call after a quiet day then starts as soon as any other.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        pipes: Pipes,
        *,
        zygote: Zygote | None = None,
        marks: ProcessMarks | None = None,
        kept: int = 0,
    ) -> None:
        self.marks = marks or ProcessMarks()
        self.environ = environ  # of every process of user code
        self._zygote = zygote
        self._pipes = pipes
        self._names = itertools.count(1)
        self._spare: TemplateClient | None = None
        self._by_key: dict[Key, TemplateClient] = {}
        self._branches: dict[Key, asyncio.Task[TemplateClient]] = {}
        self._unsafe: BoundedDict[Key, str] = BoundedDict()
        self._ended: list[tuple[tuple[str, int], TemplateClient]] = []
        self._spare_timer: asyncio.TimerHandle | None = None
        self._stopped_apps: set[str] = set()
        self._deployed: set[tuple[str, int]] = set()
        self._kept = kept
        self._branching_marks: set[ProcessMark] = set()

    @property
    def apps(self) -> set[str]:
        """The apps that have templates."""
        return {key.app for key in self._by_key}

    def note_apps(self, *, stopped: set[str], deployed: set[tuple[str, int]]) -> None:
        """Take in which apps have stopped, so that `tidy` ends their templates, and which (app, version) are deployed."""
        self._stopped_apps, self._deployed = stopped, deployed

    @property
    def living_marks(self) -> set[ProcessMark]:
        """The marks of living templates, whose containers may need the processes that carry them."""
        return {*(template.mark for template in self._all()), *self._branching_marks}

    @property
    def pids(self) -> set[int]:
        """The pids of all templates and of the zygote."""
        own = {template.process.pid for template in self._all()}
        return own if self._zygote is None else {*own, self._zygote.pid}

    def _all(self) -> list[TemplateClient]:
        spare = [self._spare] if self._spare else []
        return [*self._by_key.values(), *spare, *(each for _, each in self._ended)]

    def prepare(self) -> None:
        """Have a blank template ready where one takes long: in an interpreter of its own, without a zygote.

        A zygote forks one in some milliseconds, and for those it would cost every box 3 MiB.
        """
        self._spare_timer = None
        if self._zygote is None or self._zygote.is_lost:
            self._start_spare()

    def _start_spare(self) -> None:
        if sys.platform == "linux" and (self._spare is None or self._spare.is_dead):
            name = f"template-{next(self._names)}"
            self._spare = TemplateClient.start(
                name, self.environ, self._pipes, zygote=self._zygote, mark=self.marks.new()
            )

    async def fork(self, plan: StartPlan, start: Callable[[TemplateClient], Awaitable[int]]) -> int:
        """The pid that `start` forks from the version's template; raises UnusableError or StartError."""
        return await start(await self._loaded(plan))

    async def fork_warm(
        self,
        plan: StartPlan,
        request: StartRequest,
        start: Callable[[TemplateClient], Awaitable[int]],
    ) -> int:
        """As `fork`, from the pool's own template, in which the instance is built already."""
        key = _key(plan, plan.pool)
        self._check_forkable(key, plan)
        if key not in self._branches:
            task = asyncio.create_task(self._branch(key, plan, request), name="warm a pool")
            self._branches[key] = task
            task.add_done_callback(lambda task: self._branch_ended(key, task))
        # Shielded, because other starts may wait for the same task when this one is cancelled.
        template = await asyncio.shield(self._branches[key])
        return await start(template)

    def _branch_ended(self, key: Key, task: asyncio.Task[TemplateClient]) -> None:
        del self._branches[key]
        if not task.cancelled():
            task.exception()  # retrieved here, as perhaps nobody awaits it

    async def _branch(self, key: Key, plan: StartPlan, request: StartRequest) -> TemplateClient:
        found = self._by_key.get(key)
        if found is None or found.is_dead:
            self._discard(key)
            self._discard_outdated(key)
            version = await self._loaded(plan)
            found = self._by_key[key] = await self._branch_of(version)
        await self._await_prepared(key, found, found.warm(plan, request))
        return found

    async def _branch_of(self, version: TemplateClient) -> TemplateClient:
        mark = self.marks.new()
        self._branching_marks.add(mark)
        try:
            return await version.branch(f"template-{next(self._names)}", mark)
        finally:
            self._branching_marks.discard(mark)

    async def _loaded(self, plan: StartPlan) -> TemplateClient:
        key = _key(plan)
        self._check_forkable(key, plan)
        template = self._take(key)
        await self._await_prepared(key, template, template.load(plan))
        return template

    async def _await_prepared(
        self, key: Key, template: TemplateClient, work: Awaitable[None]
    ) -> None:
        """Await a template's `load` or `warm`; if that fails, discard it and raise."""
        try:
            await work
        except UnusableError as error:
            if not template.is_dead:
                self._unsafe[key] = str(error)
            self._discard(key)
            raise
        except StartError:
            # Not remembered: an import that an outage made fail may succeed at the next start.
            self._discard(key)
            raise

    def _check_forkable(self, key: Key, plan: StartPlan) -> None:
        """Raise UnusableError if containers of this plan cannot be forked."""
        if sys.platform != "linux":
            raise UnusableError("templates need Linux")
        if not plan.options.fork:
            raise UnusableError("it says fork=False")
        late = why_too_late(plan.variables.names)
        if late is not None:
            raise UnusableError(late)
        if key in self._unsafe:
            raise UnusableError(self._unsafe[key])

    def _take(self, key: Key) -> TemplateClient:
        found = self._by_key.get(key)
        if found is None or found.is_dead:
            self._discard(key)
            self._discard_outdated(key)
            self._start_spare()
            assert self._spare is not None
            found, self._spare = self._spare, None
            self._by_key[key] = found
            # The next spare must not compete with this first start.
            self._spare_timer = asyncio.get_running_loop().call_later(
                SPARE_DELAY_SECONDS, self.prepare
            )
        return found

    def _discard(self, key: Key) -> None:
        template = self._by_key.pop(key, None)
        if template is not None:
            template.close()
            self._ended.append((key.version, template))

    def _discard_outdated(self, key: Key) -> None:
        """End the templates that differ in the values of secrets only: these have been changed since."""
        others = [each for each in self._by_key if each._replace(sealed=key.sealed) == key]
        for other in others:
            self._discard(other)

    def tidy(self, used: set[tuple[str, int]], pools: set[str]) -> None:
        """End templates that are dead, were idle for long, or whose app has stopped.

        `used`: the (app, version) pairs that have containers; `pools`: the pools that have.
        """
        now, kept = time.monotonic(), self._to_keep()
        for key, template in list(self._by_key.items()):
            limit = IDLE_WARM_TEMPLATE_SECONDS if key.pool else IDLE_TEMPLATE_SECONDS
            if key.version in used and (not key.pool or key.pool in pools):
                template.last_used = now
            elif (
                template.is_dead
                or key.app in self._stopped_apps
                or (now - template.last_used > limit and key not in kept)
            ):
                self._discard(key)
        # An ended template is kept while its version has containers: these may need processes with its
        # mark.
        self._ended = [
            (version, each)
            for version, each in self._ended
            if each.process.poll() is None or version in used
        ]

    def _to_keep(self) -> set[Key]:
        """The templates that stay however long nothing is forked from them."""
        versions = [
            (template.last_used, key)
            for key, template in self._by_key.items()
            if not key.pool and key.version in self._deployed
        ]
        versions.sort(key=lambda each: each[0], reverse=True)
        return {key for _, key in versions[: self._kept]}

    def receive(self) -> None:
        """Handle the messages that wait on the sockets of the zygote and of all templates."""
        if self._zygote is not None:
            self._zygote.receive()
        for template in self._all():
            template.receive()

    def close(self) -> None:
        """End all templates and the zygote, and wait for their ends."""
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        for task in self._branches.values():
            task.cancel()
        for template in self._all():
            template.close()
            template.process.wait()
        if self._zygote is not None:
            self._zygote.close()


def _key(plan: StartPlan, pool: str = "") -> Key:
    """The key of the template of the plan's version and variables, or of the pool's own."""
    variables = plan.variables
    kept = [("secret", str(index), *each.identity) for index, each in enumerate(variables.secrets)]
    clear = [*(("image", *pair) for pair in variables.image.items()), *variables.own.items()]
    return Key(
        app=plan.spec.app_id,
        number=plan.version.number,
        pool=pool,
        variables=frozenset([*kept, *clear]),
        sealed=tuple(each.sealed for each in variables.secrets),
    )

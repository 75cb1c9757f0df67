"""The table of schedules: those of the current versions of all deployed apps, with what is noted of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qmodal.client.client import Client
from qmodal.exception import ConnectionError
from qmodal.services.control.schedules.cadence import Cadence, cadence_of
from qmodal.spec.documents import FunctionSpec, Version
from qmodal.spec.options import FunctionOptions
from qmodal.store.objects.schedules import UNNOTED, Notes, ScheduledApp
from qmodal.transport.defects import skip, survive
from qmodal.transport.operation import Op

Key = tuple[str, str]
# A slot that was put in line may still become a call for so long; calls are remembered for twice that time at least.
YOUNG_MS = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule: of which function, when, and what became of it; moments in ms since 1970."""

    app_id: str
    environment: str
    app: str
    function: str
    python: str
    deployed: int
    cadence: Cadence
    notes: Notes

    @property
    def key(self) -> Key:
        """Which one it is."""
        return self.app_id, self.function

    @property
    def names(self) -> tuple[str, str, str]:
        """How metrics and people call it."""
        return self.environment, self.app, self.function

    def begin(self, now: int) -> int:
        """The moment from which it has slots: those from before the deploy, and of a pause, are over.

        A cron line that is deployed again goes on as if nothing had happened.
        """
        run, since = self.notes.run, self.notes.since
        is_same = run is not None and run.identity == self.cadence.identity
        return max(0 if is_same else self.deployed, since if since <= now else 0)

    def baseline(self, now: int) -> int:
        """The moment behind which its next slot is looked for: its last one that became a call."""
        run = self.notes.run
        # What lies in the future was noted by nobody of ours.
        return max(self.begin(now), run.slot if run is not None and run.slot <= now else 0)

    def is_over(self, slot: int, now: int) -> bool:
        """Whether the slot is one that became a call, or that shall not.

        An earlier slot than the last one may have been left behind by a process that died. To make a call of it
        twice does no harm while the call is remembered.
        """
        run = self.notes.run
        is_done = run is not None and (slot == run.slot or slot < run.slot <= now - YOUNG_MS)
        return is_done or slot <= self.begin(now)


@dataclass(frozen=True, slots=True)
class _Declared:
    """The schedules that a version has, as they are recorded; `environment` and `app` as of the version."""

    version: Version
    schedules: Mapping[str, Mapping[str, object]]


class Table:
    """Reads schedules; a version is opened once. May be used by several threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._versions: dict[str, _Declared] = {}
        # With the version and the time of the deploy that they are of.
        self._cadences: dict[Key, tuple[int, int, Cadence]] = {}

    def all(self) -> Op[dict[Key, Schedule]]:
        """All schedules; what cannot be read is said once and left out."""
        titles = yield from self._client.apps.deployed()
        looked = yield from self._client.schedules.look(set(titles.values()))
        self._versions = {app: each for app, each in self._versions.items() if app in looked}
        found: dict[Key, Schedule] = {}
        for app in looked.values():
            with survive(f"reading the schedules of {app.app_id}", but=(ConnectionError,)):
                for each in (yield from self._of(app)):
                    if titles.get(f"{each.environment}/{each.app}") == app.app_id:
                        found[each.key] = each
                    else:
                        skip(f"the schedules of {app.app_id}", f"{each.app!r} is not its name")
        self._cadences = {key: each for key, each in self._cadences.items() if key in found}
        return found

    def find(self, app_id: str, function: str) -> Op[tuple[int, Schedule | None]]:
        """The server's time (ms since 1970), and the schedule of that function as it is then."""
        now, app = yield from self._client.schedules.look_at(app_id, function)
        declared = None if app is None else (yield from self._declared(app))
        if app is None or declared is None or function not in declared.schedules:
            return now, None
        return now, self._schedule(app, function, declared)

    def _of(self, app: ScheduledApp) -> Op[list[Schedule]]:
        declared = yield from self._declared(app)
        return [] if declared is None else list(self._listed(app, declared))

    def _declared(self, app: ScheduledApp) -> Op[_Declared | None]:
        known = self._versions.get(app.app_id)
        if known is None or known.version.number != app.version:
            read = yield from self._client.specs.version(app.app_id, app.version)
            if read is None or read.value.is_ephemeral:  # one that was not deployed has no slots
                return None
            known = _Declared(read.value, dict(_scheduled(read.value)))
            self._versions[app.app_id] = known
        return known

    def _listed(self, app: ScheduledApp, declared: _Declared) -> Iterator[Schedule]:
        for function in declared.schedules:
            with survive(f"reading the schedule of {declared.version.name}.{function}"):
                yield self._schedule(app, function, declared)

    def _schedule(self, app: ScheduledApp, function: str, declared: _Declared) -> Schedule:
        version = declared.version
        return Schedule(
            app_id=app.app_id,
            environment=version.environment,
            app=version.name,
            function=function,
            python=version.python,
            deployed=app.deployed,
            cadence=self._cadence(app, function, declared),
            notes=app.notes.get(function, UNNOTED),
        )

    def _cadence(self, app: ScheduledApp, function: str, declared: _Declared) -> Cadence:
        known = self._cadences.get((app.app_id, function))
        if known is not None and known[:2] == (app.version, app.deployed):
            return known[2]
        made = cadence_of(declared.schedules[function], app.deployed)
        self._cadences[app.app_id, function] = (app.version, app.deployed, made)
        return made


def _scheduled(version: Version) -> Iterator[tuple[str, Mapping[str, object]]]:
    for tag, spec in version.functions.items():
        plain = _schedule_of(spec)
        if plain is not None:
            yield tag, plain


def _schedule_of(spec: FunctionSpec) -> Mapping[str, object] | None:
    found = FunctionOptions.from_plain(spec.options).schedule
    return found if isinstance(found, dict) else None

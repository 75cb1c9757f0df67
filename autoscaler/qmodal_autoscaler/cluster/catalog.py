"""The terms of each pool: its app's current version, verified, and its live settings."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from qmodal.client.client import Client
from qmodal.exception import Error, InvalidError
from qmodal.spec.documents import FunctionSpec, PoolSpec, Version
from qmodal.spec.needs.needs import Needs
from qmodal.spec.options import AutoscalerOverride, FunctionOptions
from qmodal.spec.reader import MismatchError, check_version_of
from qmodal.spec.variant import options_in_force
from qmodal.store.apps import AppRecord
from qmodal.transport.defects import skip
from qmodal.transport.operation import Op
from qmodal.transport.sharing.gather import all_of
from qmodal_autoscaler.policy.room import NOTHING
from qmodal_autoscaler.policy.state import PoolSettings

# Terms that are remembered, so that overrides that come and go do not gather.
MOST_TERMS = 10_000
APP_STOPPED = "stopped: the app was stopped"


class UnknownTermsError(Error):
    """Raised when the terms of a pool are not known, so that nothing about it changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTerms:
    """The terms of a pool now.

    `number` is the app's current version, `capacity` how many inputs a container may run.
    `least`: containers of older versions than this end at once, whatever they run.
    `weight`: its share of the room beside other pools of its app. `needs`: what a container requests of its box, without
    the limits that only the box has to know.
    `ended`: why nothing in the pool will run any more, as its callers are told; empty if it may.
    """

    label: str
    app: str
    function: str
    number: int
    settings: PoolSettings
    capacity: int = 1
    ended: str = ""
    least: int = 0
    weight: float = 1.0
    needs: Needs = NOTHING


@dataclass(frozen=True, slots=True)
class _AppState:
    record: AppRecord | None
    overrides: dict[str, dict[str, float]]


class Catalog:
    """The apps, pool specs and versions that the leader has read.

    Apps are read on every look, signed documents, which never change, once.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._specs: dict[str, PoolSpec] = {}
        self._apps: dict[str, _AppState] = {}
        self._versions: dict[tuple[str, int], Version] = {}
        self._changed: set[str] = set()
        self._terms: dict[tuple[Any, ...], PoolTerms] = {}
        # The highest version of each app that was current, as its signed document says.
        self._highest: dict[str, int] = {}
        # Of each pool: the terms that it shares with others, and these with its label.
        self._labelled: dict[str, tuple[PoolTerms, PoolTerms]] = {}

    def app_of(self, pool: str) -> str:
        """The pool's app; empty if its spec is not known."""
        spec = self._specs.get(pool)
        return "" if spec is None else spec.app_id

    def read_all_apps(self) -> list[Op[None]]:
        """Operations that read records and overrides of all apps that are known."""
        return self.read_apps(list(self._apps))

    def take_changed(self) -> set[str]:
        """The pools of the apps that were found to be other than before, since this was asked last."""
        changed, self._changed = self._changed, set()
        if not changed:
            return set()
        return {pool for pool, spec in self._specs.items() if spec.app_id in changed}

    def apps_of(self, pools: Iterable[str]) -> set[str]:
        """The apps of those pools whose spec is known."""
        return {self._specs[pool].app_id for pool in pools if pool in self._specs}

    def read_specs(self, pools: Iterable[str]) -> list[Op[None]]:
        """Operations that read the specs of those pools whose spec is not known yet."""
        return [self._read_spec(pool) for pool in pools if pool not in self._specs]

    def read_apps(self, apps: Iterable[str]) -> list[Op[None]]:
        """Operations that read records and overrides of the apps."""
        return [self._read_app(app) for app in apps]

    def read_versions(self, apps: Iterable[str]) -> list[Op[None]]:
        """Operations that read the versions that are needed now and not known yet."""
        wanted = self._needed() - self._versions.keys()
        chosen = set(apps)
        return [self._read_version(*key) for key in sorted(wanted) if key[0] in chosen]

    def _needed(self) -> set[tuple[str, int]]:
        """The current versions of the apps that go on, and those that pools are pinned to."""
        records = {app: about.record for app, about in self._apps.items()}
        alive = {
            app: record
            for app, record in records.items()
            if record is not None and record.state != "stopped"
        }
        pinned = {(spec.app_id, spec.number) for spec in self._specs.values() if spec.number}
        return {(app, record.version) for app, record in alive.items()} | {
            key for key in pinned if key[0] in alive
        }

    def spec(self, pool: str) -> PoolSpec | None:
        """What the pool serves, if that is known."""
        return self._specs.get(pool)

    def pools(self) -> set[str]:
        """The pools whose spec is known."""
        return set(self._specs)

    def records(self) -> dict[str, AppRecord]:
        """The records of the apps of all pools."""
        found = {app: about.record for app, about in self._apps.items()}
        return {app: record for app, record in found.items() if record is not None}

    def is_complete(self, pools: Iterable[str]) -> bool:
        """Whether it is known of each of the pools to which app it belongs."""
        return all(pool in self._specs for pool in pools)

    def keep(self, pools: Collection[str]) -> None:
        """Forget the specs, apps and versions that only other pools need."""
        for pool in self._specs.keys() - set(pools):
            del self._specs[pool]
            self._labelled.pop(pool, None)
        apps = self.apps_of(pools)
        self._apps = {app: about for app, about in self._apps.items() if app in apps}
        needed = self._needed()
        if needed != self._versions.keys() or len(self._terms) > MOST_TERMS:
            self._terms = {}
        self._versions = {key: each for key, each in self._versions.items() if key in needed}

    def terms(self, pool: str) -> PoolTerms:
        """The terms of the pool; raises UnknownTermsError."""
        spec = self._specs.get(pool)
        about = None if spec is None else self._apps.get(spec.app_id)
        if spec is None or about is None:
            raise UnknownTermsError("its spec or its app cannot be read")
        record = about.record
        if record is None or record.state == "stopped":
            return _ended(spec, 0, APP_STOPPED)
        number = spec.number or record.version
        version = self._versions.get((record.app_id, number))
        if version is None:
            raise UnknownTermsError(f"version {number} of {record.name!r} cannot be read")
        self._check(version, record, spec)
        function = version.functions.get(spec.function)
        if function is None:
            why = f"stopped: version {version.number} of {version.name!r} has no {spec.function!r}"
            return _ended(spec, version.number, why)
        override = about.overrides.get(pool, {})
        # All parameter sets of a class have the same terms, but for their label.
        key = (spec.app_id, number, spec.function, spec.variant, tuple(sorted(override.items())))
        terms = self._terms.get(key)
        if terms is None:
            terms = self._terms[key] = _running(spec, version, function, override)
        return self._with_label(pool, spec, terms, 0 if spec.number else record.least)

    def _with_label(self, pool: str, spec: PoolSpec, shared: PoolTerms, least: int) -> PoolTerms:
        before, labelled = self._labelled.get(pool, (None, shared))
        if before is not shared or labelled.least != least:
            labelled = replace(shared, label=_label(spec), least=least)
            self._labelled[pool] = shared, labelled
        return labelled

    def _check(self, version: Version, record: AppRecord, spec: PoolSpec) -> None:
        """Raise UnknownTermsError for a version of another app, or an earlier one than one that was current."""
        try:
            check_version_of(version, record)
        except MismatchError as error:
            raise UnknownTermsError(str(error)) from error
        if spec.number:
            return
        highest = self._highest.get(version.app_id, 0)
        if version.number < highest:
            raise UnknownTermsError(
                f"version {version.number} of {version.name!r} is given as the current one, and version {highest} was "
                "already; deploy the app again"
            )
        if version.number > highest:
            if len(self._highest) >= MOST_TERMS:
                self._highest = {
                    app: self._highest[app] for app in self._highest if app in self._apps
                }
            self._highest[version.app_id] = version.number

    def _read_spec(self, pool: str) -> Op[None]:
        spec = yield from self._client.specs.pool(pool)
        if spec is not None:
            self._specs[pool] = spec.value

    def _read_app(self, app: str) -> Op[None]:
        apps = self._client.apps
        record, overrides = yield from all_of(apps.record(app), apps.overrides(app))
        before, now = self._apps.get(app), _AppState(record, overrides)
        self._apps[app] = now
        if before is not None and before != now:
            self._changed.add(app)

    def _read_version(self, app: str, number: int) -> Op[None]:
        version = yield from self._client.specs.version(app, number)
        if version is not None:
            self._versions[app, number] = version.value


def _ended(spec: PoolSpec, number: int, why: str) -> PoolTerms:
    return PoolTerms(
        label=_label(spec),
        app=spec.app_id,
        function=spec.function,
        number=number,
        settings=PoolSettings(scaledown_window=0.0),
        ended=why,
    )


def _running(
    spec: PoolSpec, version: Version, function: FunctionSpec, override: dict[str, float]
) -> PoolTerms:
    options = _overridden(options_in_force(function, spec), override, spec)
    settings = PoolSettings(
        min_containers=options.min_containers,
        max_containers=options.max_containers,
        buffer_containers=options.buffer_containers,
        scaledown_window=float(options.scaledown_window),
        slots=options.slots,
        alpha=options.scaleup_softness,
        scaleup_window=float(options.scaleup_window),
        ephemeral=version.is_ephemeral,
        gives_up=options.on_crash_loop == "fail",
    )
    return PoolTerms(
        label=_label(spec),
        app=spec.app_id,
        function=spec.function,
        number=version.number,
        settings=settings,
        capacity=options.capacity,
        weight=float(options.priority),
        needs=_requested(options.needs),
    )


def _requested(needs: Needs) -> Needs:
    requests = replace(needs, cpu_limit=None, memory_limit=None)
    return requests if requests.is_declared else NOTHING


def _overridden(
    options: FunctionOptions, override: dict[str, float], spec: PoolSpec
) -> FunctionOptions:
    try:
        return AutoscalerOverride.from_plain(override).apply(options)
    except InvalidError as error:  # written by somebody else, or for an earlier version
        skip(f"the overrides of {_label(spec)}", str(error))
        return options


def _label(spec: PoolSpec) -> str:
    return f"{spec.label or spec.function} [{spec.pool[:8]}]"

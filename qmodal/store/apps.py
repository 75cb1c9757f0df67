"""Apps: deployed and ephemeral ones, their versions, code and autoscaler overrides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgpack

from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.defects import survive
from qmodal.transport.operation import (
    PATIENCE_SECONDS,
    Command,
    Op,
    ask,
    ask_each,
    ask_one,
    ask_shared,
)
from qmodal.transport.script import script

# An ephemeral app ends this long after the last heartbeat of its client, which sends one every 5 s.
CLIENT_TTL_MS = 30_000
HEARTBEAT_SECONDS = 5.0
KEEP_CODE_SECONDS = 30 * 24 * 3600
KEEP_STOPPED_SECONDS = 7 * 24 * 3600
# Each is looked at when the history is read or the app ends; nobody deploys so often.
MOST_VERSIONS = 1_000_000
KEEP_DETACHED_SECONDS = 24 * 3600
# Names of keys that are looked at together.
SCANNED = 1000
AppState = Literal["ephemeral", "detached", "deployed", "stopped"]
LIFETIMES_MS: dict[AppState, int] = {
    "ephemeral": CLIENT_TTL_MS,
    "detached": KEEP_DETACHED_SECONDS * 1000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRecord:
    """An app's record on the server; containers of versions below `least` end at once."""

    app_id: str
    name: str
    environment: str
    state: AppState
    version: int
    least: int = 0

    @property
    def title(self) -> str:
        """The name under which it is found while it is deployed."""
        return f"{self.environment}/{self.name}"


@dataclass(frozen=True, slots=True)
class Apps:
    """Operations on apps."""

    keys: Keys

    def find(self, environment: str, name: str) -> Op[str | None]:
        """The id of the deployed app of that name."""
        (reply,) = yield from ask_shared((b"HGET", self.keys.apps, f"{environment}/{name}"))
        return reading.text(reply, self.keys.apps)

    def record(self, app_id: str) -> Op[AppRecord | None]:
        """The app's record; None if it never was or its time is over."""
        (reply,) = yield from ask_shared(self._record_command(app_id))
        # Not None for one that cannot be read: that would end the containers of the app.
        return _record(app_id, reply, self.keys.app(app_id))

    def records(self, app_ids: Collection[str]) -> Op[dict[str, AppRecord | None]]:
        """The records of several apps, in one exchange; those that cannot be read are left out."""
        found: dict[str, AppRecord | None] = {}
        replies = yield from ask_each(self._record_command(app) for app in app_ids)
        for app, reply in zip(app_ids, replies, strict=True):
            key = self.keys.app(app)
            if reading.is_readable(reply, key):
                with survive(f"reading {key}"):
                    found[app] = _record(app, reply, key)
        return found

    def _record_command(self, app_id: str) -> Command:
        names = (b"name", b"environment", b"state", b"version", b"least")
        return (b"HMGET", self.keys.app(app_id), *names)

    def publish(
        self, record: AppRecord, *, document: bytes, now: int, bundle: str | None = None
    ) -> Op[bool]:
        """Make `document` the version `record.version` and current; False if another was faster.

        A deployed app keeps its source `bundle`, which is stored already, until it is stopped.
        """
        keys, app_id = self.keys, record.app_id
        reply = yield from ask_one(
            *script("deploy").command(
                (
                    keys.apps,
                    keys.app(app_id),
                    keys.settings(app_id),
                    keys.version(app_id, record.version),
                    keys.code(bundle or ""),
                    keys.code_apps(bundle or ""),
                ),
                (
                    f"{record.environment}/{record.name}",
                    app_id,
                    record.name,
                    record.environment,
                    record.state,
                    record.version,
                    document,
                    LIFETIMES_MS.get(record.state, 0),
                    now,
                    record.least,
                    bundle or "",
                ),
            )
        )
        is_published = bool(reply == b"OK")
        if is_published and record.version > 1:
            yield from ask_one(b"PUBLISH", keys.wake, b"")  # containers of the old one give way
        return is_published

    def version(self, app_id: str, number: int) -> Op[bytes | None]:
        """The signed document of one version."""
        reply: bytes | None
        (reply,) = yield from ask_shared((b"GET", self.keys.version(app_id, number)))
        return reply

    def store_code(self, digest: str, content: bytes) -> Op[None]:
        """Keep a bundle; one that is there already only lives longer."""
        key = self.keys.code(digest)
        yield from ask(
            # NX: of two publishers at once, the later one must not give a lifetime to what was deployed.
            (b"SET", key, content, b"NX", b"EX", KEEP_CODE_SECONDS),
            (b"EXPIRE", key, KEEP_CODE_SECONDS, b"GT"),  # GT: what has none must not get one
        )

    def code(self, digest: str) -> Op[bytes | None]:
        """A bundle by its SHA-256."""
        key = self.keys.code(digest)
        replies = yield from ask((b"GET", key), (b"EXPIRE", key, KEEP_CODE_SECONDS, b"GT"))
        content: bytes | None = replies[0]
        return content

    def beat(
        self,
        app_id: str,
        number: int,
        state: AppState,
        *,
        older: Sequence[int] = (),
        patience: float = PATIENCE_SECONDS,
    ) -> Op[bool]:
        """The app's client is alive; False if the app was given up meanwhile. `older`: versions that calls are pinned to."""
        lifetime = LIFETIMES_MS[state]
        replies = yield from ask(
            *self._prolong(app_id, number, state),
            *((b"PEXPIRE", self.keys.version(app_id, each), lifetime) for each in older),
            (b"SET", self.keys.client(app_id), b"1", b"PX", CLIENT_TTL_MS),
            patience=patience,
        )
        return bool(replies[0])

    def prolong(self, app_id: str, number: int) -> Op[None]:
        """A detached app still has work to do."""
        yield from ask(*self._prolong(app_id, number, "detached"))

    def _prolong(self, app_id: str, number: int, state: AppState) -> list[Command]:
        keys, lifetime = self.keys, LIFETIMES_MS[state]
        known = (keys.app(app_id), keys.version(app_id, number), keys.settings(app_id))
        prolonged = [(b"PEXPIRE", key, lifetime) for key in known]
        return [*prolonged, self.prolong_routes_command(app_id, lifetime)]

    def prolong_routes_command(self, app_id: str, lifetime: int) -> Command:
        """Have the names that lead to the app do so for `lifetime` ms more."""
        return script("prolong").command((self.keys.routes(app_id),), (lifetime, self.keys.route))

    def detach(self, app_id: str) -> Op[None]:
        """The client of a detached app leaves; the autoscaler ends it once its work is done."""
        yield from ask_one(b"UNLINK", self.keys.client(app_id))

    def has_client(self, app_id: str) -> Op[bool]:
        """Whether the client of an app was heard of in the last 30 s."""
        reply: int = yield from ask_one(b"EXISTS", self.keys.client(app_id))
        return reply == 1

    def reset(self, app_id: str) -> Op[None]:
        """End the app's autoscaler overrides, as every deploy does."""
        yield from ask((b"UNLINK", self.keys.settings(app_id)), (b"PUBLISH", self.keys.wake, b""))

    def tags(self, app_id: str) -> Op[dict[str, str]]:
        """What people have noted about the app."""
        packed = yield from ask_one(b"HGET", self.keys.app(app_id), b"tags")
        found = reading.mapping(packed, self.keys.app(app_id)) if packed else None
        return {name: str(value) for name, value in (found or {}).items()}

    def set_tags(self, app_id: str, tags: Mapping[str, str]) -> Op[None]:
        """Replace them; of an app that is gone, none are kept."""
        command = script("tag").command((self.keys.app(app_id),), (msgpack.packb(dict(tags)),))
        yield from ask_one(*command)

    def published(self, app_id: str, count: int) -> Op[list[tuple[int, bytes | None]]]:
        """When each version was published (ms since 1970) and its signed document, first to last."""
        numbers = range(1, count + 1)
        times = [(b"HGET", self.keys.app(app_id), f"at:{number}") for number in numbers]
        documents = [(b"GET", self.keys.version(app_id, number)) for number in numbers]
        replies = yield from ask(*times, *documents)
        return [
            (max(0, reading.whole(at) or 0), text)
            for at, text in zip(replies[:count], replies[count:], strict=True)
        ]

    def forget(self, app_id: str, number: int) -> Op[bool]:
        """Forget an old version, and its bundle if no other one needs it; False if it is gone, or current."""
        keys = (self.keys.app(app_id), self.keys.version(app_id, number))
        arguments = (app_id, number, KEEP_CODE_SECONDS, self.keys.code(""))
        return bool((yield from ask_one(*script("forget").command(keys, arguments))))

    def disuse(self, digest: str) -> Op[int]:
        """Take apps that are not deployed any more off those that need a bundle; how many."""
        members = yield from ask_one(b"SMEMBERS", self.keys.code_apps(digest))
        where = self.keys.code_apps(digest)
        apps = [app for each in members if (app := reading.text(each, where)) is not None]
        count: int = yield from ask_one(*self.disuse_command(digest, apps))
        return count

    def disuse_command(self, digest: str, apps: Sequence[str]) -> Command:
        """Take those of the apps that are not deployed off those that need the bundle; the reply is how many."""
        return script("disuse").command(
            (self.keys.code(digest),),
            (KEEP_CODE_SECONDS,),
            more_keys=[self.keys.app(app) for app in apps],
            more=apps,
        )

    def last_stopped(self, environment: str, name: str) -> Op[str | None]:
        """The id of the app of that name that was stopped last, within a week."""
        key = self.keys.stopped(environment, name)
        return reading.text((yield from ask_one(b"GET", key)), key)

    def all_stopped(self) -> Op[dict[str, str]]:
        """The apps that were stopped within a week, the last of each name: `<environment>/<name>` -> id."""
        first = self.keys.stopped("", "").removesuffix("/")
        names: set[str] = set()
        cursor = b"0"
        while True:
            scan = (b"SCAN", cursor, b"MATCH", f"{first}*", b"COUNT", SCANNED)
            cursor, found = yield from ask_one(*scan)
            names |= {name for each in found if (name := reading.text(each, first)) is not None}
            if cursor == b"0":
                break
        if not names:
            return {}
        ids = yield from ask_one(b"MGET", *sorted(names))
        pairs = zip(sorted(names), ids, strict=True)
        return {
            name.removeprefix(first): app
            for name, each in pairs
            if (app := reading.text(each, first)) is not None
        }

    def current_since(self, records: Collection[AppRecord]) -> Op[list[int]]:
        """When the current version of each app was published, in ms since 1970; 0 if that is not known."""
        replies = yield from ask_each(
            (b"HGET", self.keys.app(each.app_id), f"at:{each.version}") for each in records
        )
        return [max(0, reading.whole(each) or 0) for each in replies]

    def stop(self, record: AppRecord) -> Op[None]:
        """End the app: no new inputs, its containers go, its name is free."""
        keys, app_id = self.keys, record.app_id
        yield from ask_one(
            *script("stop").command(
                (
                    keys.apps,
                    keys.app(app_id),
                    keys.stopped(record.environment, record.name),
                    keys.settings(app_id),
                    keys.client(app_id),
                    keys.routes(app_id),
                    keys.schedules(app_id),
                ),
                (
                    f"{record.environment}/{record.name}",
                    app_id,
                    KEEP_STOPPED_SECONDS,
                    KEEP_CODE_SECONDS,
                    keys.code(""),
                    keys.route,
                    keys.wake,
                ),
            )
        )

    def deployed(self) -> Op[dict[str, str]]:
        """All deployed apps: `<environment>/<name>` -> id."""
        reply = yield from ask_one(b"HGETALL", self.keys.apps)
        return reading.texts(reply, self.keys.apps)

    def override(
        self,
        app_id: str,
        pool: str,
        given: Mapping[str, float],
        *,
        least: int = 0,
        most: int | None = None,
    ) -> Op[dict[str, float]]:
        """Merge autoscaler overrides into those of a pool, until the next deploy, and have them looked at.

        Not if the minimum were above the maximum then: `least` and `most` are the function's own. What they are
        together, whether that is kept or not.
        """
        command = self.override_command(app_id, pool, given, least=least, most=most)
        packed = yield from ask_one(*command)
        merged = None if packed is None else reading.mapping(packed, self.keys.settings(app_id))
        return dict(given) if merged is None else _values(merged)

    def override_command(
        self, app_id: str, pool: str, given: Mapping[str, float], *, least: int, most: int | None
    ) -> Command:
        """Merge these overrides of a pool; the reply is what they are together, None if the app is gone."""
        keys = (self.keys.app(app_id), self.keys.settings(app_id))
        flat = [part for name, value in given.items() for part in (name, value)]
        arguments = (pool, self.keys.wake, least, most or 0)
        return script("override").command(keys, arguments, more=flat)

    def overrides(self, app_id: str) -> Op[dict[str, dict[str, float]]]:
        """All overrides of an app: pool id -> settings, which are names and numbers."""
        found = yield from self._settings(app_id)
        return {pool: _values(settings) for pool, settings in found.items()}

    def overridden(self, app_id: str, pool: str) -> Op[dict[str, tuple[float, int]]]:
        """The overrides of one pool, each with the time (ms since 1970, 0 if that is not known)."""
        found = (yield from self._settings(app_id)).get(pool, {})
        values = _values(found)
        return {name: (value, int(found.get(f"{name}{_AT}", 0))) for name, value in values.items()}

    def _settings(self, app_id: str) -> Op[dict[str, dict[str, float]]]:
        key = self.keys.settings(app_id)
        found: dict[str, dict[str, float]] = {}
        for field, packed in reading.pairs((yield from ask_one(b"HGETALL", key))):
            pool, settings = reading.text(field, key), reading.mapping(packed, key)
            if pool is not None and settings is not None:
                numbers = ((name, n) for name, n in settings.items() if type(n) in (int, float))
                found[pool] = {name: n for name, n in numbers if n >= 0}
        return found


# Behind the name of a setting: when it was overridden.
_AT = "_at"


def _values(settings: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in settings.items() if not name.endswith(_AT)}


def _record(app_id: str, reply: Sequence[bytes | None], where: str) -> AppRecord | None:
    if reply[2] is None:
        return None
    name, environment, state = (reading.text(part, where) for part in reply[:3])
    number, least = reading.whole(reply[3]), reading.whole(reply[4] or b"0")
    if name is None or environment is None or number is None or least is None:
        raise reading.unreadable(where, f"a name or a number is missing in {reply!r:.200}")
    if not reading.is_a(state, AppState):
        raise reading.unreadable(where, f"there is no state {state!r}")
    if not 0 <= number <= MOST_VERSIONS:
        raise reading.unreadable(where, f"version {number}")
    return AppRecord(
        app_id=app_id,
        name=name,
        environment=environment,
        state=cast("AppState", state),
        version=number,
        least=least,
    )

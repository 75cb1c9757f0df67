"""Schedules of deployed apps: when each has run last, whether it is paused, and who looks for due slots first.

What is due follows from the signed version of an app and the time of its deploy. The notes here only keep a slot from
becoming a call again; whoever can write to the server may pause a schedule by them, and run nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.operation import Op, ask_each, ask_one
from qmodal.transport.script import script
from qmodal.wire.ids import is_call_id

TICKER_MS = 1500
_RUN, _HOLD = "run:", "hold:"


class LastRun(NamedTuple):
    """The last slot of a schedule that became a call; `slot` and `at` in ms since 1970, `at` when it was submitted."""

    slot: int
    at: int
    call: str
    identity: str


class Notes(NamedTuple):
    """What is noted of a schedule; `since` is when it was paused, or resumed."""

    run: LastRun | None = None
    is_paused: bool = False
    since: int = 0


UNNOTED = Notes()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledApp:
    """A deployed app: its current version, when it was deployed last (ms since 1970), and notes by function."""

    app_id: str
    version: int
    deployed: int
    notes: Mapping[str, Notes]


@dataclass(frozen=True, slots=True)
class Schedules:
    """Operations on schedules."""

    keys: Keys

    def look(self, app_ids: Collection[str]) -> Op[dict[str, ScheduledApp]]:
        """Those of the apps that are deployed, with what is noted of them, in one exchange."""
        commands: list[tuple[Any, ...]] = []
        for app in app_ids:
            commands.append((b"HMGET", self.keys.app(app), b"state", b"version", b"deployed"))
            commands.append((b"HGETALL", self.keys.schedules(app)))
        replies = yield from ask_each(commands)
        found: dict[str, ScheduledApp] = {}
        for app, about, noted in zip(app_ids, replies[::2], replies[1::2], strict=True):
            seen = self._app(app, about, noted)
            if seen is not None:
                found[app] = seen
        return found

    def look_at(self, app: str, function: str) -> Op[tuple[int, ScheduledApp | None]]:
        """The server's time (ms since 1970), and the app with what is noted of one schedule; None if it is not deployed."""
        fields = (_RUN + function, _HOLD + function)
        time, about, noted = yield from ask_each(
            (
                (b"TIME",),
                (b"HMGET", self.keys.app(app), b"state", b"version", b"deployed"),
                (b"HMGET", self.keys.schedules(app), *fields),
            )
        )
        if isinstance(noted, list):
            noted = [
                part
                for field, value in zip(fields, noted, strict=True)
                if value is not None
                for part in (field.encode(), value)
            ]
        return int(time[0]) * 1000 + int(time[1]) // 1000, self._app(app, about, noted)

    def _app(self, app: str, about: Any, noted: Any) -> ScheduledApp | None:
        if not reading.is_readable(about, self.keys.app(app)) or about[0] != b"deployed":
            return None
        version, deployed = reading.whole(about[1]), reading.whole(about[2])
        where = self.keys.schedules(app)
        texts = reading.texts(noted, where) if reading.is_readable(noted, where) else {}
        return ScheduledApp(
            app_id=app, version=version or 0, deployed=deployed or 0, notes=_notes(texts)
        )

    def note_run(self, app: str, function: str, run: LastRun) -> Op[bool]:
        """Note the run; False if that slot or a later one was noted before, or the app is not deployed any more."""
        keys = (self.keys.app(app), self.keys.schedules(app))
        note = f"{run.at} {run.call} {run.identity}"
        arguments = (_RUN + function, run.slot, note)
        return bool((yield from ask_one(*script("note_run").command(keys, arguments))))

    def hold(self, app: str, function: str, *, is_paused: bool) -> Op[bool]:
        """Pause or resume a schedule; False if it was so already, or the app is not deployed any more."""
        keys = (self.keys.app(app), self.keys.schedules(app))
        arguments = (_HOLD + function, "paused" if is_paused else "resumed")
        return bool((yield from ask_one(*script("hold").command(keys, arguments))))

    def is_first(self, name: str) -> Op[bool]:
        """Whether the control process of that name looks for due slots first, for a second and a half from now on.

        Only to spare the others the work: two that believe it fire nothing twice.
        """
        key = self.keys.ticker
        taken = (b"SET", key, name, b"NX", b"PX", TICKER_MS, b"GET")
        owner = yield from reading.ask_mending(key, *taken)
        is_ours = owner is not None and reading.text(owner, key) == name
        # One without a lifetime, or with a longer one, would never go.
        if is_ours or (owner is not None and not (yield from self._is_passing(key))):
            yield from ask_one(b"PEXPIRE", key, TICKER_MS)
        return owner is None or is_ours

    def _is_passing(self, key: str) -> Op[bool]:
        left: int = yield from ask_one(b"PTTL", key)
        return 0 <= left <= TICKER_MS

    def resign(self, name: str) -> Op[None]:
        """Let another control process look first at once."""
        key = self.keys.ticker
        if reading.text((yield from reading.ask_mending(key, b"GET", key)), key) == name:
            yield from ask_one(b"UNLINK", key)


def _notes(texts: Mapping[str, str]) -> dict[str, Notes]:
    found: dict[str, Notes] = {}
    for field, text in texts.items():
        if field.startswith(_RUN):
            function = field.removeprefix(_RUN)
            found[function] = found.get(function, UNNOTED)._replace(run=_run(text))
        elif field.startswith(_HOLD):
            function, (state, _, since) = field.removeprefix(_HOLD), text.partition(" ")
            held = found.get(function, UNNOTED)
            at = reading.whole(since.encode()) or 0
            found[function] = held._replace(is_paused=state == "paused", since=at)
    return found


def _run(text: str) -> LastRun | None:
    parts = text.split(" ", 3)
    if len(parts) != 4 or not is_call_id(parts[2]):
        return None
    slot, at = reading.whole(parts[0].encode()), reading.whole(parts[1].encode())
    return None if slot is None or at is None else LastRun(slot, at, parts[2], parts[3])

"""What a list is about: calls and pools of one app or all, of one function or all, since a moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from qmodal.cli.commands.app import find
from qmodal.client.client import Client
from qmodal.exception import Error, NotFoundError
from qmodal.spec.web import full_name
from qmodal.store.apps import AppRecord
from qmodal.store.watch.observing import Observation
from qmodal.transport.operation import Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """`app` is an id, `function` a name as people write it (`f`, `Cls` or `Cls.method`); empty for all.

    `since`: ms since 1970.
    """

    app: str = ""
    function: str = ""
    since: int = 0

    def has(self, app: str, tag: str, method: str | None = None) -> bool:
        """Whether this function is meant; any of its methods may be, as long as none is named."""
        if self.app and app != self.app:
            return False
        if not self.function or self.function in (tag, tag.removesuffix(".*")):
            return True
        if method is not None:
            return self.function == full_name(tag, method)
        return tag.endswith(".*") and self.function.startswith(tag[:-1])


def scope_of(
    client: Client, *, app: str | None, environment: str | None, function: str | None, since: int
) -> Op[Scope]:
    """The scope that the options mean; raises NotFoundError for an app or a function that nobody knows."""
    record = None if app is None else (yield from find(client, app, environment))
    app_id = "" if record is None else record.app_id
    scope = Scope(app=app_id, function=function or "", since=since)
    if function:
        yield from _check_function(client, scope, record)
    return scope


def _check_function(client: Client, scope: Scope, record: AppRecord | None) -> Op[None]:
    """Raise NotFoundError if neither a pool, nor a failure, nor a version has that function."""
    known = set((yield from client.failures.functions()))
    pools = yield from client.observing.active()
    known |= {
        (seen.app, seen.function)
        for seen in (yield from client.observing.observe(pools))
        if seen is not None
    }
    if any(scope.has(app, tag) for app, tag in known):
        return
    records = [record] if record else (yield from deployed_records(client))
    for each in records:
        known |= {(each.app_id, tag) for tag in (yield from _tags(client, each))}
    if any(scope.has(app, tag) for app, tag in known):
        return
    names = sorted({tag.removesuffix(".*") for app, tag in known if scope.app in ("", app)})
    where = f"app {record.name}" if record else "any app"
    raise NotFoundError(
        f"There is no function '{scope.function}' in {where}; known are: {', '.join(names) or 'none'}."
    )


def deployed_records(client: Client) -> Op[list[AppRecord]]:
    """The records of all deployed apps; of names that lead to another app, none."""
    deployed = yield from client.apps.deployed()
    records = yield from client.apps.records(list(deployed.values()))
    return [
        record
        for title, app in deployed.items()
        if (record := records.get(app)) is not None and title == record.title
    ]


def _tags(client: Client, record: AppRecord) -> Op[Collection[str]]:
    try:
        found = yield from client.specs.of_record(record)
    except Error:  # published with another key, or by another release
        return ()
    return () if found is None else found.value.functions.keys()


def app_names(client: Client, apps: Iterable[str]) -> Op[Mapping[str, str]]:
    """The names of apps by their ids; an app that is forgotten has its id for a name."""
    ids = sorted({app for app in apps if app})
    records = yield from client.apps.records(ids)
    return {app: record.name if (record := records.get(app)) else app for app in ids}


def observed(client: Client, pools: Iterable[str]) -> Op[dict[str, Observation]]:
    """Looks at those of the pools that the server knows."""
    wanted = sorted(set(pools))
    seen = yield from client.observing.observe(wanted)
    return {pool: each for pool, each in zip(wanted, seen, strict=True) if each is not None}

"""Finds pools: by id, the beginning of one, or the name of what they serve; and what each does."""

from __future__ import annotations

import time
from dataclasses import dataclass

from qmodal.cli.commands.app import backlog_of
from qmodal.cli.commands.finding.scope import Scope, app_names, deployed_records, observed
from qmodal.client.client import Client
from qmodal.client.waiting.why import fleet_state, reason_of
from qmodal.exception import Error, NotFoundError
from qmodal.spec.documents import PoolSpec
from qmodal.spec.reader import MismatchError
from qmodal.store.fleet import ContainerReport
from qmodal.store.watch.observing import Observation
from qmodal.store.watch.reasons import Reason
from qmodal.transport.operation import Op
from qmodal.wire.ids import is_pool_id

# The least of an id that counts as its beginning.
SHORTEST = 4
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """One pool as people see it; `waiting` are inputs in line, `held` entries that containers have."""

    seen: Observation
    app_name: str
    containers: tuple[ContainerReport, ...]
    reason: Reason
    turn: str = ""  # when it gets room for another container: its place among the pools that wait

    @property
    def waiting(self) -> int:
        """Inputs in line."""
        return backlog_of(self.seen)

    @property
    def held(self) -> int:
        """Entries that containers have: an input each, or a pack of them."""
        return sum(consumer.pending for consumer in self.seen.consumers)

    @property
    def state(self) -> str:
        """Whether it may have containers, and has some."""
        if self.seen.paused:
            return "paused"
        return "active" if self.containers or self.seen.inflight else "idle"


def pools_in(client: Client, scope: Scope) -> Op[list[PoolView]]:
    """The active pools of a scope, by app and label."""
    active = yield from client.observing.active()
    seen = yield from observed(client, active)
    meant = [each for each in seen.values() if scope.has(each.app, each.function)]
    return (yield from _views(client, meant))


def view_of(client: Client, seen: Observation) -> Op[PoolView]:
    """One pool with its containers."""
    return (yield from _views(client, [seen]))[0]


def _views(client: Client, pools: list[Observation]) -> Op[list[PoolView]]:
    names = yield from app_names(client, (each.app for each in pools))
    state = yield from fleet_state(client.fleet, client.boxes, client.server)
    views = [
        PoolView(
            seen=each,
            app_name=names.get(each.app, each.app),
            containers=tuple(one for one in state.of_pool(each.pool) if not one.is_over),
            reason=reason_of(each, state),
            turn="" if state.line is None else state.line.turn(each.pool),
        )
        for each in pools
    ]
    return sorted(views, key=lambda each: (each.app_name, each.seen.label, each.seen.pool))


def find_pool(client: Client, which: str, scope: Scope, *, opens: bool = False) -> Op[Observation]:
    """The pool that is meant; raises NotFoundError for one that is not known, or if several may be.

    With `opens` that of a deployed function becomes known which nobody has called yet.
    """
    if is_pool_id(which):
        exact = (yield from observed(client, [which])).get(which)
        if exact is not None:
            return exact
    active = yield from observed(client, (yield from client.observing.active()))
    meant = [each for each in active.values() if _is_meant(which, each, scope)]
    if len(meant) > 1:
        shown = ", ".join(sorted(f"{each.pool} ({each.label})" for each in meant[:5]))
        raise NotFoundError(
            f"{len(meant)} pools are called '{which}': {shown}{', …' if len(meant) > 5 else ''}. "
            "Give an id, more of it, or --app."
        )
    if meant:
        yield from _check(client, meant[0])
        return meant[0]
    return (yield from _inactive(client, which, scope, opens=opens))


def _check(client: Client, seen: Observation) -> Op[None]:
    """Raise MismatchError unless the pool, which was found by a name, serves what its record says."""
    found = yield from client.specs.pool(seen.pool)
    if found is None:
        return
    spec = found.value
    if (spec.app_id, spec.function) != (seen.app, seen.function):
        raise MismatchError(
            f"pool {seen.pool} is listed as {seen.function!r} of app {seen.app}, and serves {spec.function!r} of "
            f"app {spec.app_id}: its record was changed by something else than qmodal. Name the pool by its id."
        )


def _is_meant(which: str, seen: Observation, scope: Scope) -> bool:
    if not scope.has(seen.app, seen.function):
        return False
    is_beginning = len(which) >= SHORTEST and _HEX.issuperset(which)
    if is_beginning and seen.pool.startswith(which):
        return True
    return which in (seen.label, seen.function.removesuffix(".*"))


def _inactive(client: Client, which: str, scope: Scope, *, opens: bool) -> Op[Observation]:
    """The pool of a deployed function that has nothing to do now; raises NotFoundError."""
    found = yield from _declared(client, which, scope)
    if len(found) > 1:
        apps = ", ".join(sorted(app for app, _ in found))
        raise NotFoundError(f"Several apps have a function '{which}': {apps}. Give --app.")
    for _, spec in found:
        seen = (yield from observed(client, [spec.pool])).get(spec.pool)
        if seen is None and opens:
            yield from client.pools.open(
                spec.pool,
                spec=spec.seal(client.signer),
                app=spec.app_id,
                function=spec.function,
                label=spec.label,
            )
            seen = (yield from observed(client, [spec.pool])).get(spec.pool)
        if seen is not None:
            return seen
        raise NotFoundError(f"'{which}' has not been called yet, so it has no pool.")
    raise NotFoundError(
        f"There is no active pool '{which}'; `qmodal pool list` shows those there are. That of a class "
        "is named with its parameters, and one with nothing to do is found by its whole id."
    )


def _declared(client: Client, which: str, scope: Scope) -> Op[list[tuple[str, PoolSpec]]]:
    """App and pool of the deployed functions of that name: none of a class, whose parameters make its pools."""
    found = []
    for record in (yield from deployed_records(client)):
        if scope.app not in ("", record.app_id):
            continue
        try:
            version = yield from client.specs.of_record(record)
        except Error:  # published with another key, or by another release
            continue
        function = version.value.functions.get(which) if version is not None else None
        if function is not None and not function.is_class:
            spec = PoolSpec(app_id=record.app_id, function=which, label=which)
            found.append((record.name, spec))
    return found


def paused_now() -> int:
    """The time that a pause begins, or at which failed starts are forgotten, in ms since 1970."""
    return time.time_ns() // 1_000_000

"""Which web function a host label, a path or a domain leads to, as gateways look it up.

Names of one kind have three ranks, each with a key of its own. The first rank that leads somewhere counts: an app that is being developed takes a
label from a deployed one for as long as it runs, and what an app could be called for short leads to it unless another
app has that for its full name. Within a rank, the app that was published last counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from qmodal.exception import Error
from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.defects import skip
from qmodal.transport.operation import Op, ask_one
from qmodal.transport.script import script
from qmodal.wire.route import RANKS, NamedRoute, Rank, Route, RouteKind, RouteName, open_route
from qmodal.wire.signing import Signer


@dataclass(frozen=True, slots=True)
class Routes:
    """Operations on routes."""

    keys: Keys
    signer: Signer

    def find(self, names: Sequence[RouteName]) -> Op[list[Route | None]]:
        """Where each of the names leads; None for one that leads nowhere, or that cannot be trusted."""
        if not names:
            return []
        start = self.keys.route
        keys = [start + _field(rank, *name) for name in names for rank in RANKS]
        replies = yield from ask_one(b"MGET", *keys)
        count = len(RANKS)
        return [
            self._first(name, replies[n * count : (n + 1) * count]) for n, name in enumerate(names)
        ]

    def _first(self, name: RouteName, sealed: Iterable[object]) -> Route | None:
        for each in sealed:
            if isinstance(each, bytes) and (route := self._open(name, each)) is not None:
                return route
        return None

    def _open(self, name: RouteName, sealed: bytes) -> Route | None:
        try:
            return open_route(sealed, self.signer, name)
        except Error as error:
            skip(f"the route {':'.join(name)}", str(error))
            return None

    def publish(
        self, app_id: str, number: int, routes: Sequence[NamedRoute], *, lifetime: int
    ) -> Op[bool]:
        """Have exactly these lead to version `number` of the app; False if that is not current.

        They live for `lifetime` ms (0: until the app is stopped), as `Apps.beat` prolongs them. Stopping the app
        removes them (`Apps.stop`).
        """
        command = script("route").command(
            (self.keys.app(app_id), self.keys.routes(app_id)),
            (number, lifetime, self.keys.route),
            more=(
                part
                for each in routes
                for part in (_field(each.rank, each.kind, each.name), each.seal(self.signer))
            ),
        )
        reply = yield from ask_one(*command)
        return bool(reply == b"OK")

    def of_app(self, app_id: str) -> Op[list[NamedRoute]]:
        """What the app was published with; another app may have taken one of the names since."""
        key = self.keys.routes(app_id)
        found: list[NamedRoute] = []
        for field, sealed in reading.pairs((yield from ask_one(b"HGETALL", key))):
            named = self._named(reading.text(field, key) or "", sealed)
            if named is not None:
                found.append(named)
        return found

    def _named(self, field: str, sealed: bytes) -> NamedRoute | None:
        rank, _, rest = field.partition(":")
        kind, _, name = rest.partition(":")
        if not (reading.is_a(rank, Rank) and reading.is_a(kind, RouteKind)):
            return None
        route = self._open((cast("RouteKind", kind), name), sealed)
        if route is None:
            return None
        return NamedRoute(cast("Rank", rank), cast("RouteKind", kind), name, route)


def _field(rank: Rank, kind: RouteKind, name: str) -> str:
    return f"{rank}:{kind}:{name}"

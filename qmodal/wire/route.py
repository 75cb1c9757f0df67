"""Routes: a name, and the web function that it leads to, as signed bytes.

A route is signed together with its name, so that a copy under another name leads nowhere.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgpack

from qmodal.wire.envelope import SHAPE, MalformedError, kinds, unpack_fields
from qmodal.wire.signing import Signer

# `label`: first label of a host name; `path`: `<app>/<function>` or `<app>`, decoded; `domain`: a whole host name.
RouteKind = Literal["label", "path", "domain"]
RouteName = tuple[RouteKind, str]
# `run`: of an app that is not deployed; `deployed`; `short`: what also leads there, unless it is another one's name.
Rank = Literal["run", "deployed", "short"]
RANKS: tuple[Rank, ...] = ("run", "deployed", "short")
_PURPOSE = "code"
_KINDS = kinds(str, str, str, str, str, str, str, int)


class Route(NamedTuple):
    """A web function of version `number` of an app; `method` is "" for a function that is no method."""

    app_id: str
    app: str
    environment: str
    tag: str
    method: str
    number: int


class NamedRoute(NamedTuple):
    """A route to publish, and a name that leads there."""

    rank: Rank
    kind: RouteKind
    name: str
    route: Route

    def seal(self, signer: Signer) -> bytes:
        """The signed bytes."""
        return signer.sign(_PURPOSE, msgpack.packb((SHAPE, self.kind, self.name, *self.route)))


def open_route(data: bytes, signer: Signer, name: RouteName) -> Route:
    """Verify, then decode; raises BadSignatureError, UnknownKeyError or MalformedError."""
    *own_name, app_id, app, environment, tag, method, number = unpack_fields(
        signer.verify(_PURPOSE, data), _KINDS
    )
    if tuple(own_name) != name:
        raise MalformedError(f"it is the route of {':'.join(own_name)}")
    return Route(app_id, app, environment, tag, method, number)

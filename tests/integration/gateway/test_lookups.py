"""What a gateway remembers of where requests lead, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from qmodal.client.client import Client, current
from qmodal.services.gateway.routing.router import HIT_SECONDS, STALE_SECONDS, Router


class Visits:
    """A router whose clock is moved by hand; `later` has the look-ups that nobody waited for."""

    def __init__(self, client: Client) -> None:
        self.later: list[Coroutine[Any, Any, None]] = []
        self.now = 0.0
        self.router = Router(client, self.later.append)
        self.router._now = lambda: self.now

    async def at(self, now: float) -> tuple[object, int]:
        """What a request at that time leads to, and how many look-ups were put off so far."""
        self.now = now
        match = await self.router.find(b"", b"/gated/web/x")
        assert match is not None
        return self.router._paths[b"gated", b"web"], len(self.later)


def test_what_was_found_counts_for_half_a_second_even_if_nobody_has_asked_meanwhile(
    gated: Any,
) -> None:
    """Else a stopped app is called, and a new version lets in whom it wants a token of."""
    assert HIT_SECONDS + STALE_SECONDS <= 0.5

    async def program() -> None:
        visits = Visits(current())
        found, _ = await visits.at(0.0)
        assert await visits.at(HIT_SECONDS - 0.01) == (found, 0)
        assert await visits.at(HIT_SECONDS + 0.01) == (found, 1)  # nobody waits under load
        anew, put_off = await visits.at(HIT_SECONDS + STALE_SECONDS + 0.01)
        assert anew is not found
        assert put_off == 1
        visits.later.pop().close()

    asyncio.run(program())

"""Somebody who answers what callers submit, in a thread of the test: a container without a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from qmodal.client.client import Client
from qmodal.store.entries import Claimed, Settled
from qmodal.transport.errors import StreamGoneError
from qmodal.transport.operation import ask_one
from qmodal.wire.envelope import open_envelope
from qmodal.wire.outcome import Outcome
from qmodal.wire.payload import dump_value, load_arguments
from qmodal.wire.signing import Signer, mac_of

NAME = "ta-answering-1"


class Answering:
    """Claims what is in a pool, and settles each input with its first argument, once that is allowed.

    `size`: results are texts of so many characters with the argument at their end. `outcome`: how each ends
    instead, and `signer` what says so.
    """

    def __init__(
        self,
        client: Client,
        pool: str,
        *,
        size: int = 0,
        outcome: Outcome | None = None,
        signer: Signer | None = None,
    ) -> None:
        self._client = client
        self._pool = pool
        self._size = size
        self._outcome = outcome
        self._signer = signer or client.signer
        self._ends = False
        # Cleared, nothing is settled; what is claimed meanwhile counts as `held`.
        self.may_settle = threading.Event()
        self.may_settle.set()
        self.held = 0
        self.settled = 0

    def run(self) -> None:
        """Until it is told to end."""
        client, pool = self._client, self._pool
        held: list[Claimed] = []
        while not self._ends:
            command = client.pools.claim_command(pool, NAME, count=100, block=None)
            with suppress(StreamGoneError):  # nobody has submitted anything yet
                held += client.pools.parse_claim(pool, client.run(ask_one(*command)))
                if not held:  # perhaps the reply to a claim was lost with its connection
                    lost = client.run(ask_one(*client.pools.held_command(pool, NAME)))
                    held += client.pools.parse_claim(pool, lost)
            self.held = len(held)
            if held and self.may_settle.is_set():
                settle = client.pools.settle_command(pool, [self._settled(one) for one in held])
                _, *were_held = client.run(ask_one(*settle))
                self.settled += sum(were_held)
                held = []
            else:
                self.may_settle.wait(0.01)

    def end(self) -> None:
        """No more."""
        self._ends = True

    def _settled(self, claimed: Claimed) -> Settled:
        signed, signer = claimed.fields[1], self._client.signer
        envelope = open_envelope(signed, signer)
        (value,), _ = load_arguments(envelope.format, envelope.payload, plain_only=False)
        form, payload = dump_value(
            f"{value:>{self._size}}" if self._size else value, plain_only=False
        )
        outcome = self._outcome or Outcome("value", form, payload, NAME)
        sealed = outcome.seal(self._signer, call=envelope.call, index=0, request=mac_of(signed))
        return Settled(claimed.lane, claimed.entry, envelope.call, 0, sealed, False)


@contextmanager
def answering(client: Client, pool: str, **how: Any) -> Iterator[Answering]:
    """Somebody answers during the block, on connections of their own."""
    own = Client(client.settings)
    made = Answering(own, pool, **how)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.end()
        thread.join()
        own.close()

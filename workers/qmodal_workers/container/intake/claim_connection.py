"""The container's own connection: settle and claim in one write, and recover after a loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from qmodal.client.client import Client
from qmodal.exception import ConfigurationError
from qmodal.store.entries import Claimed, Settled
from qmodal.store.pools import MOST_HELD, Pools
from qmodal.store.watch.succession import Successions
from qmodal.transport.connection import BLOCK_SECONDS, LOST, Address, Connection, pack
from qmodal.transport.errors import (
    PASSING,
    LostError,
    NotReadyError,
    ReplyAction,
    StreamGoneError,
    first_error,
    judge,
    to_exception,
)
from qmodal.transport.operation import Command, Exchange, Packed, Reply
from qmodal.transport.script import known_command, load_commands
from qmodal_workers.container.until_ready import OUTAGES, insist

FIRST_BLOCK_MS = 1000
BLOCK_MS = int(BLOCK_SECONDS * 1000)
RECONNECT_SECONDS = 0.2
# What joining the pool again mends: its streams are gone, or something else is in their place.
MENDED = (ReplyAction.GONE, ReplyAction.FOREIGN)


class _Asked(NamedTuple):
    """A request that is not answered yet: the outcomes in it, and how many `extra` replies come first."""

    ended: Sequence[Settled]
    extra: int


class ClaimConnection:
    """Reads the pool's streams as one consumer; `inflight` is the pool's as of the last settle.

    `connection`: one to connect first; `client_id` is the server's number for the one in use.
    `is_once`: the server knows, before it delivers anything, that what was started never runs again.
    `most_held`: how many entries it may hold of either stream. `number`: the container's version, if newer ones may
    replace it, else 0. `on_settled` is called with what is written.
    """

    def __init__(
        self,
        client: Client,
        pool: str,
        container: str,
        *,
        is_once: bool = False,
        most_held: int = MOST_HELD,
        number: int = 0,
        connection: Connection | None = None,
        on_settled: Callable[[Sequence[Settled]], None] = lambda _: None,
    ) -> None:
        self._on_settled = on_settled
        self._client = client
        self._pools: Pools = client.pools
        self._pool = pool
        self._container = container
        self._held_command = client.pools.held_command(pool, container, most=most_held)
        self._marks = (client.pools.mark_command(pool, container),) if is_once else ()
        self._successions = Successions(client.keys)
        succeed = self._successions.command(pool, number, container)
        self._succeeds = (succeed,) if number else ()
        self._number = number
        self._first = connection
        self._connection: Connection | None = None
        self.client_id = 0
        self.inflight = 0
        self._packed: dict[tuple[int, int | None], bytes] = {}
        self._asked: _Asked | None = None
        self.extra_replies: list[Reply] = []  # to the `extra` commands of the last `ask`
        # Outcomes of an `ask` whose answer was an error; they are still to be settled.
        self.unsettled: list[Settled] = []
        # An outcome was refused as not ours, so what is held has to be read again.
        self.is_doubtful = False
        # There is nothing to claim here any more: the pool is not known, or a newer version has it.
        self.is_gone = False

    def connect(self) -> list[Claimed]:
        """(Re)connect, for as long as it takes; returns the entries that the server says are held here."""
        while True:
            connection = self._first or Connection(Address(self._client.settings.redis_url or ""))
            self._first = None
            try:
                connection.connect()
                held = self._introduced(connection)
            except (*LOST, ConfigurationError) as error:
                connection.close()
                if isinstance(error, ConfigurationError) and not self.client_id:
                    raise  # at its start it holds nothing, and this is why the start fails
                time.sleep(RECONNECT_SECONDS)
            else:
                self._connection = connection
                return self._parse(held)

    def _introduced(self, connection: Connection) -> Reply:
        """Send what has to precede a claim: scripts and the mark; returns the reply about what is held."""
        own = (*self._marks, (b"CLIENT", b"ID"), self._held_command, *self._succeeds)
        # To load what is known takes the server a hundred times as long as to ask for it.
        known, *replies = connection.exchange((known_command(), *own))
        if not (isinstance(known, list) and all(known)):
            replies = connection.exchange((*load_commands(), *own))
        refusal = first_error(replies)
        verdict = ReplyAction.GONE if refusal is None else judge(refusal)
        if refusal is not None and verdict in (*PASSING, ReplyAction.FULL, ReplyAction.REFUSED):
            raise NotReadyError(str(refusal)) from refusal
        if refusal is not None and verdict not in MENDED:
            raise to_exception(refusal, verdict) from refusal
        if self._succeeds:
            *replies, others = replies
            self._succeed(others)
        *_, self.client_id, held = replies
        return held

    def _succeed(self, reply: Reply) -> None:
        """Have containers of older versions start nothing more, before anything is claimed here."""
        others = self._successions.parse(reply)
        if others is None:
            self.is_gone = True
        elif others:
            complete = partial(self._successions.complete, self._pool, self._number, others)
            insist(self._client, complete)

    def connect_first(self) -> int:
        """Connect for the first time; returns the connection's client id. `held` reads what is held."""
        self.connect()
        return self.client_id

    def ask(
        self,
        ended: Sequence[Settled],
        *,
        count: int,
        block: int | None = None,
        extra: Sequence[Command] = (),
    ) -> None:
        """Settle outcomes and claim up to `count` entries in one write; only `answer` may follow.

        The server waits for up to `block` ms for an entry, if given. `extra` commands go first.
        """
        commands = [*extra, *self._asking(ended, count, block)]
        self._asked = _Asked(ended, len(extra))
        try:
            if self._connection is not None:
                self._connection.write(commands)
        except LOST:
            self.drop()

    def _asking(
        self, ended: Sequence[Settled], count: int, block: int | None
    ) -> tuple[Packed, ...]:
        claim = self._claim_command(count, block)
        if not ended:
            return (claim,)
        return self._pools.settle_command(self._pool, ended), claim

    @property
    def is_pollable(self) -> bool:
        """Whether `push` and `poll` work: it is connected, and without TLS."""
        return self._connection is not None and self._connection.is_pollable

    @property
    def is_asked(self) -> bool:
        """Whether the answer to an `ask` or `push` is to come."""
        return self._asked is not None

    def watchable(self) -> int:
        """A copy of its descriptor, for an event loop to watch; the caller closes it. Raises LOST."""
        if self._connection is None:
            raise LostError("not connected")
        return self._connection.watchable()

    def push(self, ended: Sequence[Settled], *, count: int, block: int | None) -> None:
        """As `ask`, in an event loop; raises LOST, and then `answer` settles the outcomes elsewhere."""
        self._asked = _Asked(ended, 0)
        if self._connection is None:
            raise LostError("not connected")
        self._connection.push(self._asking(ended, count, block))

    def poll(self) -> list[Claimed] | None:
        """What the last `push` has claimed; None while the answer is not there. Its outcomes go before (`has_settled`).

        Raises LOST also for an answer that is an error: then `drop` it, and `answer` sees to the rest.
        """
        if self._connection is None:
            raise LostError("not connected")
        for reply in self._connection.arrived():
            asked = self._asked
            if asked is None or isinstance(reply, Exception):
                raise LostError(str(reply))
            if not asked.ended:
                self._asked = None
                return self._pools.parse_claim(self._pool, reply)
            self._settled(reply, asked.ended)
            self._asked = asked._replace(ended=())
        return None

    @property
    def has_settled(self) -> bool:
        """Whether no outcome of the last `push` is unanswered."""
        return self._asked is None or not self._asked.ended

    def is_answered(self, seconds: float) -> bool:
        """Whether the answer begins to arrive within so many seconds, or the connection is lost."""
        connection = self._connection
        return connection is None or connection.is_readable(seconds)

    def answer(self, *, is_urgent: bool = True) -> list[Claimed] | None:
        """The entries that the last `ask` has claimed; None when the connection was lost.

        Unless it `is_urgent`, others have the processor until the answer is there.
        """
        asked, self._asked = self._asked, None
        connection = self._connection
        try:
            if asked is None or connection is None:
                raise OSError
            self.extra_replies = connection.replies(asked.extra)
            if asked.ended:
                reply = connection.read() if is_urgent else connection.sleep()
                self._settled(reply, asked.ended)
                asked = asked._replace(ended=())
            return self._parse(connection.wait() if is_urgent else connection.sleep())
        except LOST:
            self.drop()
            if asked is not None:
                self.settle(asked.ended)
            return None
        except BaseException:
            self.drop()  # a reply that is left would be taken for that to the next command
            self.unsettled += asked.ended if asked is not None else ()
            raise

    def _claim_command(self, count: int, block: int | None) -> bytes:
        """The packed command of a claim; few different ones recur, so each is packed once."""
        packed = self._packed.get((count, block))
        if packed is None:
            command = self._pools.claim_command(
                self._pool, self._container, count=count, block=block
            )
            packed = self._packed[count, block] = pack((command,))
        return packed

    def _settled(self, reply: Reply, ended: Sequence[Settled]) -> None:
        if isinstance(reply, Exception):
            # The claim behind it is not answered yet, and may block; the outcomes must not wait for it.
            self.settle(ended)
        else:
            self.inflight, *recorded = reply
            self.is_doubtful = self.is_doubtful or 0 in recorded
            self._on_settled(ended)

    def settle(self, ended: Sequence[Settled]) -> None:
        """Settle without claiming, repeated for as long as it takes; an entry that was lost is no error."""
        if not ended:
            return
        command = self._pools.settle_command(self._pool, ended)
        replies: list[Reply] = []
        while not replies:
            try:
                replies = self._client.blocking.exchange(Exchange((command,), patience=3600.0))
            except StreamGoneError:
                return  # the server has lost its data, so nobody waits for these outcomes
            except OUTAGES:  # giving up would make the inputs run again
                time.sleep(RECONNECT_SECONDS)
        self.inflight, *recorded = replies[0]
        self.is_doubtful = self.is_doubtful or 0 in recorded
        self._on_settled(ended)

    def held(self) -> list[Claimed]:
        """The entries that the server says are held here; connects if there is no connection.

        A pack that was split, and whose outcome the server has lost since, is given back: its entry
        looks as if it stood for the whole pack, and would run so.
        """
        if self._asked is not None:
            self.answer()  # the entries in it are held, so they are read again here
        self.is_doubtful = False
        held = self._held()
        packs = [one for one in held if one.size > 1]
        if not packs:
            return held
        while True:
            try:
                split = self._release_split(packs)
            except OUTAGES:
                time.sleep(RECONNECT_SECONDS)
            else:
                return [one for one in held if one not in split]

    def _release_split(self, packs: list[Claimed]) -> list[Claimed]:
        """Release those of the packs that were split; returns them."""
        notes = self._client.run(self._pools.kept(self._pool, packs))
        split = [one for one, note in zip(packs, notes, strict=True) if note is not None]
        released = [(one.lane, one.entry, one.call) for one in split]
        self._client.run(self._pools.release(self._pool, released))
        return split

    def _held(self) -> list[Claimed]:
        if self._connection is None:
            return self.connect()
        try:
            return self._parse(self._connection.exchange((self._held_command,))[0])
        except LOST:
            self.drop()
            return self.connect()

    def _parse(self, reply: Reply) -> list[Claimed]:
        if not isinstance(reply, Exception):
            return self._pools.parse_claim(self._pool, reply)
        verdict = judge(reply)
        if verdict in MENDED:
            self.is_gone = not insist(self._client, lambda: self._pools.join(self._pool))
            if self._marks:  # the mark is gone with the pool, and set again on connecting
                self.drop()
        elif verdict in (*PASSING, ReplyAction.FULL, ReplyAction.REFUSED, ReplyAction.DENIED):
            self.drop()
            time.sleep(RECONNECT_SECONDS)
        else:
            raise to_exception(reply, verdict) from reply
        return []

    def drop(self) -> None:
        """Close the connection as one that is lost."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def end_wait(self) -> None:
        """By another thread: whoever waits for an answer waits no more; the connection is lost by that."""
        connection = self._connection
        if connection is not None:
            connection.shut()

    def close(self) -> None:
        """Close the connection."""
        self.drop()

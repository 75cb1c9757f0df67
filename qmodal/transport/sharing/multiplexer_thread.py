"""Carries out the exchanges of plain callers of all threads: a daemon thread with an event loop and a multiplexer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from qmodal.transport.connection import READ_SECONDS, Address
from qmodal.transport.errors import LostError
from qmodal.transport.operation import Command, Exchange, Reply
from qmodal.transport.sharing.multiplexer import Multiplexer
from qmodal.transport.sharing.pending_call import PendingCall
from qmodal.transport.sharing.pending_exchange import PendingExchange
from qmodal.transport.sharing.reply_reader import ReplyReader

T = TypeVar("T")

STOP_SECONDS = 1.0
# While so many exchanges wait for replies, the loop stands still for a moment before it takes in more: the
# threads that were just woken use the interpreter alone meanwhile, and their next calls go out together.
MANY_WAITING, GATHER_SECONDS = 16, 0.0003


class _Woken:
    """The end of a call for the thread that waits for it."""

    __slots__ = ("_multiplexer", "_pending", "queue")

    def __init__(self, multiplexer: Multiplexer, pending: PendingCall) -> None:
        self._multiplexer = multiplexer
        self._pending = pending
        # Not a lock: it may be ended twice, by two threads that refuse at the same time.
        self.queue: SimpleQueue[Sequence[bytes] | None] = SimpleQueue()

    def done(self) -> bool:
        """Never, as the queue takes whatever comes."""
        return False

    def set_result(self, result: Sequence[bytes] | None, /) -> None:
        """Wake the thread."""
        self._multiplexer.leave(self._pending)
        self.queue.put(result)


class MultiplexerThread:
    """A daemon thread that carries out exchanges for all other threads; raises RuntimeError if it cannot start.

    Callers queue exchanges and sleep. What they queue while the loop is at work is taken in by its next
    round, so many of them wake it once; none of them reads or writes for others.
    """

    def __init__(self, address: Address, later: deque[Command]) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._multiplexer = Multiplexer(address, later)
        # Exchanges that begin, and (False) those that nobody waits for any more.
        self._queue: deque[tuple[PendingExchange | PendingCall, bool]] = deque()
        self._is_woken = False
        self._thread = threading.Thread(target=self._run, name="qmodal-callers", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    @property
    def reader(self) -> ReplyReader:
        """What reads the replies to their calls."""
        return self._multiplexer.reader

    @property
    def is_alive(self) -> bool:
        """Whether it can do anything; not in the child of a fork, or once it was stopped."""
        return self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._end())
        finally:
            self._loop.close()
            self._refuse()

    def _refuse(self) -> None:
        """Fail what was queued too late to be taken in."""
        self._is_woken = False  # first: from now on who queues something refuses it by itself
        with contextlib.suppress(IndexError):  # several may do so at the same time
            while True:
                pending, _ = self._queue.popleft()
                pending.end(LostError("the connection was closed"))

    async def _end(self) -> None:
        self._multiplexer.close()
        # What was cancelled ends, and what closes a TLS connection comes, in the next rounds.
        for _ in range(2):
            await asyncio.sleep(0)

    def exchange(self, request: Exchange) -> list[Reply]:
        """Carry it out together with others; raises why it failed."""
        # Not a lock: it may be ended twice, by two threads that refuse at the same time.
        ended: SimpleQueue[list[Reply] | Exception] = SimpleQueue()

        def done(result: list[Reply] | Exception) -> None:
            self._multiplexer.leave(pending)
            ended.put(result)

        pending = PendingExchange(request, done)
        result = self._awaited(pending, ended, request.seconds)
        if isinstance(result, Exception):
            raise result
        return result

    def call(self, pending: PendingCall, seconds: float) -> Sequence[bytes] | None:
        """Send a new call with others; what has come for it after so many seconds, or None (`PendingCall`)."""
        ended = _Woken(self._multiplexer, pending)
        pending.ended, pending.seconds = ended, seconds
        return self._awaited(pending, ended.queue, seconds)

    def _awaited(
        self, pending: PendingExchange | PendingCall, ended: SimpleQueue[T], seconds: float
    ) -> T:
        """Have the thread carry it out; what it puts into `ended`. Whoever is interrupted takes it back."""
        is_left = True
        try:
            self._put(pending, begins=True)
            # Longer than the loop takes to give up: it says what has happened.
            result = ended.get(timeout=seconds + 2 * READ_SECONDS)
            is_left = False
        except Empty:
            raise TimeoutError("the thread that carries out calls does not answer") from None
        finally:
            if is_left:
                self._put(pending, begins=False)
        return result

    def _put(self, pending: PendingExchange | PendingCall, *, begins: bool) -> None:
        self._queue.append((pending, begins))
        if self._is_woken:
            return
        try:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._take_in)
        except RuntimeError:  # it was stopped
            self._refuse()
        except BaseException:  # Ctrl-C, perhaps before the loop was woken, on which others rely
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take_in)
            raise

    def _take_in(self) -> None:
        if self._multiplexer.waiting > MANY_WAITING:
            time.sleep(GATHER_SECONDS)
        self._is_woken = False  # first: what is queued from now on asks for another round
        queue, multiplexer = self._queue, self._multiplexer
        if multiplexer.is_closed:
            self._refuse()  # the loop goes on for two rounds, in which nothing is carried out
        while queue:
            pending, begins = queue.popleft()
            if not begins:
                multiplexer.leave(pending)
            elif isinstance(pending, PendingCall):
                multiplexer.call(pending)
            else:
                multiplexer.submit(pending)

    def stop(self) -> None:
        """End the thread and its connections."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_SECONDS)

    def leave(self) -> None:
        """Close the copies of its sockets, in the child of a fork; the loop must not be touched there."""
        self._multiplexer.abandon()

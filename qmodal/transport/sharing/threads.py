"""What plain callers share that are under way together, in all threads: a thread with an event loop does it for them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque

from redis import exceptions as redis_errors

from qmodal.transport.connection import READ_SECONDS, Address
from qmodal.transport.operation import Command, Exchange, Reply
from qmodal.transport.sharing.crowd import Crowd
from qmodal.transport.sharing.link import Posting
from qmodal.transport.sharing.mailbox import Mailbox

STOP_SECONDS = 1.0


class ThreadCrowd:
    """A crowd in a daemon thread of its own, for the callers of all other threads.

    Callers hand over postings and sleep. What they hand over while the loop is at work is taken in by its next
    round, so many of them wake it once; and none of them reads or writes for others.
    """

    def __init__(self, address: Address, later: deque[Command]) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._crowd = Crowd(address, later)
        self._arriving: deque[tuple[Posting, bool]] = deque()
        self._is_due = False
        self._thread = threading.Thread(target=self._run, name="qmodal-callers", daemon=True)
        self._thread.start()

    @property
    def mailbox(self) -> Mailbox:
        """Where the letters of their calls come in."""
        return self._crowd.mailbox

    @property
    def is_alive(self) -> bool:
        """Whether its thread can do anything; not in the child of a fork, or once it was stopped."""
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
        """What was handed over too late to be taken in is refused."""
        self._is_due = False  # first: from now on who hands over is told by itself
        with contextlib.suppress(IndexError):  # several may do so at the same time
            while True:
                posting, _ = self._arriving.popleft()
                posting.end(redis_errors.ConnectionError("the connection was closed"))

    async def _end(self) -> None:
        self._crowd.close()
        for _ in range(
            2
        ):  # what was cancelled ends, and what closes a TLS connection comes, in the next rounds
            await asyncio.sleep(0)

    def exchange(self, request: Exchange) -> list[Reply]:
        """Carry it out together with others; raises why it failed."""
        ended: list[list[Reply] | Exception] = []
        has_ended = threading.Lock()
        has_ended.acquire()

        def done(result: list[Reply] | Exception) -> None:
            self._crowd.leave(posting)
            ended.append(result)
            has_ended.release()

        posting = Posting(request, done)
        self._hand_over(posting, is_new=True)
        try:
            # Longer than the loop takes to give up: it tells what has happened.
            has_ended.acquire(timeout=request.seconds + 2 * READ_SECONDS)
        finally:
            if not ended:
                self._hand_over(posting, is_new=False)
        if not ended:
            raise TimeoutError("the thread that carries out calls does not answer")
        if isinstance(ended[0], Exception):
            raise ended[0]
        return ended[0]

    def _hand_over(self, posting: Posting, *, is_new: bool) -> None:
        self._arriving.append((posting, is_new))
        if not self._is_due:
            self._is_due = True
            try:
                self._loop.call_soon_threadsafe(self._take_in)
            except RuntimeError:  # it was stopped
                self._refuse()

    def _take_in(self) -> None:
        self._is_due = False  # first: what arrives from now on asks for another round
        arriving, crowd = self._arriving, self._crowd
        while arriving:
            posting, is_new = arriving.popleft()
            if is_new:
                crowd.post(posting)
            else:
                crowd.leave(posting)

    def stop(self) -> None:
        """End the thread and its connections."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_SECONDS)

    def leave(self) -> None:
        """Close the copies of its sockets, in the child of a fork; the loop must not be touched there."""
        self._crowd.abandon()

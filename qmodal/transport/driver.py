"""Carry out operations on blocking connections: the driver behind the plain verbs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from typing import TypeVar

from qmodal.exception import Error
from qmodal.transport.connection import LOST, Address, Connection
from qmodal.transport.errors import PASSING, ReplyAction, first_error, judge
from qmodal.transport.operation import (
    AtMost,
    CarriedError,
    Command,
    Effect,
    Exchange,
    Later,
    Op,
    Pause,
    Reply,
)
from qmodal.transport.script import load_commands
from qmodal.transport.waiting import Wait, check_size

T = TypeVar("T")
# What was put off is worth so much at the end of a program or of a loop, when the server is away.
FINISH_SECONDS = 1.0
# Commands put off that go along with one write.
MOST_DEFERRED = 100


def is_refused(request: Exchange, before: list[Reply]) -> bool:
    """Whether the replies `before` that of the blocking command say that waiting is in vain."""
    if not before:
        return False
    return request.expects not in (None, before[-1]) or first_error(before) is not None


def refusal_of(request: Exchange, replies: list[Reply]) -> Exception | None:
    """The error reply for which the exchange has to be repeated, or fails."""
    if not request.each:
        return first_error(replies)
    return first_error(
        reply for reply in replies if isinstance(reply, Exception) and judge(reply) in PASSING
    )


def take_later(later: deque[Command]) -> list[Command]:
    """Take the first commands that were put off."""
    taken: list[Command] = []
    try:  # with each call, so without a context manager
        while len(taken) < MOST_DEFERRED:
            taken.append(later.popleft())
    except IndexError:  # empty; asking first would race with other threads
        return taken
    return taken


class BlockingDriver:
    """A pool of connections to one server, shared by threads; survives fork.

    `later`: what is put off, if other drivers may send it too.
    """

    def __init__(self, address: Address, later: deque[Command] | None = None) -> None:
        self.address = address
        self._idle: deque[Connection] = deque()
        self._loaded = False
        self._later: deque[Command] = deque() if later is None else later
        self._pid = os.getpid()

    def run(self, op: Op[T]) -> T:
        """Drive the operation to its result; raises what it raises and qmodal.ConnectionError."""
        try:
            request = next(op)
            while True:
                try:
                    if type(request) is Exchange:
                        replies = self.exchange(request)
                    else:
                        replies = self._aside(request)
                except BaseException as error:  # the operation may know what to do about it
                    request = op.throw(error)
                else:
                    request = op.send(replies)
        except StopIteration as done:
            result: T = done.value
            return result
        except CarriedError as carried:
            raise carried.error from None

    def _aside(self, request: Effect) -> list[Reply]:
        if isinstance(request, Later):
            self._later.append(request.command)
        elif isinstance(request, Pause):
            time.sleep(request.seconds)
        elif isinstance(request, AtMost):
            # In a thread: nothing else bounds a connect and a read that are on their way.
            thread = threading.Thread(target=self._try, args=(request.op,), daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter ends, and starts no threads
                thread.start()
                thread.join(request.seconds)
        return []

    def _try(self, op: Op[object]) -> None:
        with contextlib.suppress(Error):
            self.run(op)

    def exchange(self, request: Exchange) -> list[Reply]:
        """Carry out one exchange, repeating it while that can help."""
        wait, begin = None, time.monotonic()
        while True:
            try:
                replies, refusal = self._once(request)
            except LOST as error:
                # Those that lie idle were lost with it; trying one after another takes too long.
                self._drop_idle()
                failure: Exception = error
                is_lost = True
            else:
                if refusal is None:
                    return replies
                failure, is_lost = refusal, False
            wait = wait or Wait(self.address, request, begin)
            self._repair(wait.failed(failure, is_lost=is_lost))
            if wait.may_be_too_large:
                self.run(check_size(request))
            time.sleep(wait.delay)

    def _repair(self, verdict: ReplyAction) -> None:
        if verdict is ReplyAction.LOAD:
            self._loaded = False
        elif verdict in (ReplyAction.RECONNECT, ReplyAction.LOADING):
            self._drop_idle()

    def _once(self, request: Exchange) -> tuple[list[Reply], Exception | None]:
        connection = self._take()
        replies: list[Reply] = []
        try:
            refusal = None if self._loaded else self._load(connection)
            if refusal is None:
                replies = self._talk(connection, request)
                refusal = refusal_of(request, replies)
        except BaseException:  # also KeyboardInterrupt: replies are still on their way
            connection.close()
            raise
        if len(replies) < len(request.commands):
            connection.close()
        else:
            self._idle.append(connection)
        return replies, refusal

    def _talk(self, connection: Connection, request: Exchange) -> list[Reply]:
        commands = request.commands
        later = take_later(self._later) if self._later else ()
        try:
            connection.write((*later, *commands) if later else commands)
            if request.meanwhile is not None:
                request.meanwhile()
            if later:
                connection.replies(len(later))
        except BaseException:  # perhaps the server has not seen them; twice does no harm
            self._later.extendleft(reversed(later))
            raise
        if not request.waits:
            return connection.replies(len(commands))
        replies = connection.replies(len(commands) - 1)
        if not is_refused(request, replies):
            replies.append(connection.wait())
        return replies

    def _take(self) -> Connection:
        if self._pid != os.getpid():
            self._after_fork()
        try:
            return self._idle.pop()
        except IndexError:
            connection = Connection(self.address)
            try:
                connection.connect()
            except BaseException:  # also KeyboardInterrupt, between the connect and the login
                connection.close()
                raise
            return connection

    def _load(self, connection: Connection) -> Exception | None:
        """Make the scripts known; what the server says if it refuses."""
        refusal = first_error(connection.exchange(load_commands()))
        self._loaded = refusal is None
        return refusal

    def prepare(self) -> None:
        """Have a connection ready, which connects when it is first used, in a forked child too."""
        self._idle.append(Connection(self.address))

    def _after_fork(self) -> None:
        """The parent's sockets must not be used, nor closed with a goodbye, by a child."""
        self._idle = deque(connection for connection in self._idle if not connection.is_connected)
        self._pid = os.getpid()

    def later(self, command: Command) -> None:
        """Send the command along with some later write; nobody reads its reply."""
        self._later.append(command)

    def _drop_idle(self) -> None:
        with contextlib.suppress(IndexError):  # other threads take connections at the same time
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Send what was put off, which may take a second, and close all idle connections."""
        ends = time.monotonic() + FINISH_SECONDS
        with contextlib.suppress(*LOST, Error):
            while self._later and (left := ends - time.monotonic()) > 0:
                self._finish(left)
        self._drop_idle()

    def _finish(self, seconds: float) -> None:
        # No exchange: it would be patient, and threads that could stop it are not started any more.
        if self._pid != os.getpid():
            self._after_fork()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self.address)
        try:
            connection.limit(seconds)
            connection.exchange(take_later(self._later))
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

"""Carry out operations on blocking connections: the driver behind the plain verbs."""

from __future__ import annotations

import _thread
import contextlib
import os
import threading
import time
from collections import deque
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, TypeVar

from qmodal.exception import Error
from qmodal.transport.connection import LOST, Address, Connection
from qmodal.transport.errors import ReplyAction, first_error
from qmodal.transport.operation import (
    FIND_REPLY_READER,
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
from qmodal.transport.sharing.deferred import take_later
from qmodal.transport.waiting import Wait, check_size, is_refused, refusal_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmodal.transport.sharing.multiplexer_thread import MultiplexerThread
    from qmodal.transport.sharing.pending_call import PendingCall
    from qmodal.transport.sharing.reply_reader import ReplyReader

T = TypeVar("T")
# So many threads that call at a time are quicker with a connection each than by a thread in between.
FEW_THREADS = 20
# What was put off is worth so much at the end of a program or of a loop, when the server is away.
FINISH_SECONDS = 1.0


def are_threads_native() -> bool:
    """Whether a thread is one of the system, and not a greenlet, where an event loop would be everybody's."""
    return isinstance(_thread.start_new_thread, BuiltinFunctionType)


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
        # An element for each exchange of a call that is under way, and what these share.
        self._calls: deque[None] = deque()
        self._multiplexer: MultiplexerThread | None = None
        self._starting = threading.Lock()
        self._of_parents: list[MultiplexerThread] = []

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
        if request is FIND_REPLY_READER:
            reader = self.reply_reader()
            return [] if reader is None else [reader]
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

    def reply_reader(self) -> ReplyReader | None:
        """The reply reader, if enough calls are under way."""
        if self._pid != os.getpid():
            self.after_fork()
        if len(self._calls) < FEW_THREADS or not are_threads_native():
            return None
        try:
            return self._shared().reader
        except RuntimeError:  # no thread can be started, as at the end of the interpreter
            return None

    def call(self, pending: PendingCall, seconds: float) -> Sequence[bytes] | None:
        """Send a new call with others; what has come for it after so many seconds, or None (`PendingCall`).

        None also if the thread that carries out calls fails: an exchange then says why.
        """
        self._calls.append(None)
        try:
            return self._shared().call(pending, seconds)
        except (*LOST, RuntimeError):
            return None
        finally:
            if self._calls:  # a child of a fork began to count anew
                self._calls.pop()

    def _shared(self) -> MultiplexerThread:
        multiplexer = self._multiplexer
        if multiplexer is not None and multiplexer.is_alive:
            return multiplexer
        # Plain callers that are alone need no asyncio.
        from qmodal.transport.sharing.multiplexer_thread import MultiplexerThread

        with self._starting:
            if self._multiplexer is None or not self._multiplexer.is_alive:
                self._multiplexer = MultiplexerThread(self.address, self._later)
            return self._multiplexer

    def at_once(self, packed: bytes, count: int) -> list[Reply] | None:
        """Send so many commands of a call, packed ahead, and return their replies; None if that is not for few steps.

        Then the server may have got them or not: an exchange tries again, or says what is wrong.
        """
        # While many threads call, they share a connection. A child of a fork was told of it, as clients are.
        if not self._loaded or self._later or len(self._calls) >= FEW_THREADS:
            return None
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        self._calls.append(None)
        try:
            connection.write(packed)
            replies = connection.replies(count)
        except LOST:
            connection.close()
            return None
        except BaseException:  # also KeyboardInterrupt: replies are still on their way
            connection.close()
            raise
        finally:
            if self._calls:  # a child of a fork began to count anew
                self._calls.pop()
        self._idle.append(connection)
        for reply in replies:
            if isinstance(reply, Exception):
                return None
        return replies

    def exchange(self, request: Exchange) -> list[Reply]:
        """Carry out one exchange, repeating it while that can help."""
        begin, wait = time.monotonic(), None
        if request.shared:
            self._calls.append(None)
        try:
            while True:
                try:
                    replies, failure = self._once(request)
                    is_lost = False
                except LOST as error:
                    replies, failure, is_lost = [], error, True
                if failure is None:
                    return replies
                wait = wait or Wait(self.address, request, begin)
                self._failed(wait, failure, is_lost=is_lost)
        finally:
            if request.shared and self._calls:  # a child of a fork began to count anew
                self._calls.pop()

    def _failed(self, wait: Wait, failure: Exception, *, is_lost: bool) -> None:
        """Repair what can be, and wait until the exchange is to be repeated; raises if it is not."""
        if is_lost:
            # Those that lie idle were lost with it; trying one after another takes too long.
            self._drop_idle()
        self._repair(wait.failed(failure, is_lost=is_lost))
        if wait.may_be_too_large:
            self.run(check_size(wait.request))
        time.sleep(wait.delay)

    def _repair(self, verdict: ReplyAction) -> None:
        if verdict is ReplyAction.LOAD:
            self._loaded = False
        elif verdict in (ReplyAction.RECONNECT, ReplyAction.LOADING):
            self._drop_idle()

    def _once(self, request: Exchange) -> tuple[list[Reply], Exception | None]:
        if request.waits or not self._is_multiplexed(request):
            return self._alone(request)
        try:
            multiplexer = self._shared()
        except RuntimeError as error:  # no thread can be started
            if request.pending_reply is None:
                return self._alone(request)
            raise ConnectionError("the thread that carries out calls cannot be started") from error
        replies = multiplexer.exchange(request)
        return replies, refusal_of(request, replies)

    def _is_multiplexed(self, request: Exchange) -> bool:
        if request.pending_reply is not None:
            return True
        return request.shared and len(self._calls) > FEW_THREADS and are_threads_native()

    def _alone(self, request: Exchange) -> tuple[list[Reply], Exception | None]:
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
            replies.append(connection.wait(request.seconds))
        return replies

    def _take(self) -> Connection:
        if self._pid != os.getpid():
            self.after_fork()
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

    def after_fork(self) -> None:
        """The parent's sockets must not be used, nor closed with a goodbye, by a child."""
        if self._pid == os.getpid():
            return
        self._idle = deque(connection for connection in self._idle if not connection.is_connected)
        self._pid = os.getpid()
        self._calls.clear()
        self._starting = threading.Lock()
        multiplexer, self._multiplexer = self._multiplexer, None
        if multiplexer is not None:
            multiplexer.leave()
            # To collect its loop would end the watch over the sockets of the parent's.
            self._of_parents.append(multiplexer)

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
        multiplexer = self._multiplexer
        if multiplexer is not None and self._pid == os.getpid():
            self._multiplexer = None
            multiplexer.stop()

    def _finish(self, seconds: float) -> None:
        # No exchange: it would be patient, and threads that could stop it are not started any more.
        if self._pid != os.getpid():
            self.after_fork()
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

"""Carry out operations on blocking connections: the driver behind the plain verbs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from typing import TypeVar

from qmodal.exception import ConnectionError, Error
from qmodal.settings import redacted
from qmodal.store.exchange import AtMost, Command, Effect, Exchange, Later, Op, Pause, Reply
from qmodal.store.line import LOST, Address, Line
from qmodal.store.replies import Verdict, first_error, judge, to_exception
from qmodal.store.script import load_commands
from qmodal.wording import clause

T = TypeVar("T")
REPEAT_SECONDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def repeat_delay(attempt: int) -> float:
    """Seconds to wait before the given repetition (0 is the first): at once, then ever slower."""
    return REPEAT_SECONDS[min(attempt, len(REPEAT_SECONDS) - 1)]


def is_refused(request: Exchange, before: list[Reply]) -> bool:
    """Whether the replies `before` that of the blocking command say that waiting is in vain."""
    if not before:
        return False
    return request.expects not in (None, before[-1]) or first_error(before) is not None


def unreachable(address: Address, error: Exception) -> ConnectionError:
    """The error for a server that did not come back within the patience of an exchange."""
    where, why = redacted(address.url), clause(error)
    return ConnectionError(
        f"Redis at {where} cannot be reached: {why}. Is the server up, and QMODAL_REDIS_URL right?"
    )


def give_up(address: Address, error: Exception, ends: float) -> None:
    """Raise if a connection that could not be made or was lost is not worth another try."""
    verdict = judge(error)
    if verdict is Verdict.DENIED:
        raise to_exception(error, verdict) from error
    if time.monotonic() > ends:
        raise unreachable(address, error) from error


class Blocking:
    """A pool of lines to one server, shared by threads; survives fork."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: deque[Line] = deque()
        self._loaded = False
        self._later: deque[Command] = deque()
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

    def _aside(self, request: Effect) -> list[Reply]:
        if isinstance(request, Later):
            self._later.append(request.command)
        elif isinstance(request, Pause):
            time.sleep(request.seconds)
        elif isinstance(request, AtMost):
            # In a thread: nothing else bounds a connect and a read that are on their way.
            doing = threading.Thread(target=self._try, args=(request.op,), daemon=True)
            doing.start()
            doing.join(request.seconds)
        return []

    def _try(self, op: Op[object]) -> None:
        with contextlib.suppress(Error):
            self.run(op)

    def exchange(self, request: Exchange) -> list[Reply]:
        """Carry out one exchange, repeating it while that can help."""
        ends = time.monotonic() + request.patience
        attempt = 0
        while True:
            try:
                replies, refusal = self._once(request)
            except LOST as error:
                # Those that lie idle were lost with it; trying one after another takes too long.
                self._drop_idle()
                give_up(self.address, error, ends)
            else:
                if refusal is None:
                    return replies
                self._repair(refusal, ends)
            time.sleep(repeat_delay(attempt))
            attempt += 1

    def _repair(self, error: Exception, ends: float) -> None:
        verdict = judge(error)
        if verdict is Verdict.LOAD:
            self._loaded = False
        elif verdict is Verdict.RECONNECT:
            self._drop_idle()
        elif verdict is not Verdict.WAIT:
            raise to_exception(error, verdict) from error
        if time.monotonic() > ends:
            raise unreachable(self.address, error) from error

    def _once(self, request: Exchange) -> tuple[list[Reply], Exception | None]:
        line = self._take()
        try:
            replies = self._talk(line, request)
        except BaseException:  # also KeyboardInterrupt: replies are still on their way
            line.close()
            raise
        if len(replies) < len(request.commands):
            line.close()
        else:
            self._idle.append(line)
        return replies, first_error(replies)

    def _talk(self, line: Line, request: Exchange) -> list[Reply]:
        commands = request.commands
        later = self._take_later() if self._later else ()
        line.write((*later, *commands) if later else commands)
        if request.meanwhile is not None:
            request.meanwhile()
        if later:
            line.replies(len(later))
        if not request.waits:
            return line.replies(len(commands))
        replies = line.replies(len(commands) - 1)
        if not is_refused(request, replies):
            replies.append(line.wait())
        return replies

    def _take(self) -> Line:
        if self._pid != os.getpid():
            self._after_fork()
        try:
            line = self._idle.pop()
        except IndexError:
            line = Line(self.address)
            line.connect()
        if not self._loaded:
            self._load(line)
        return line

    def _load(self, line: Line) -> None:
        try:
            error = first_error(line.exchange(load_commands()))
        except BaseException:
            line.close()
            raise
        if error is not None:
            line.close()
            raise to_exception(error, judge(error)) from error
        self._loaded = True

    def prepare(self) -> None:
        """Have a line ready, which connects when it is first used, in a forked child too."""
        self._idle.append(Line(self.address))

    def _after_fork(self) -> None:
        """The parent's sockets must not be used, nor closed with a goodbye, by a child."""
        self._idle = deque(line for line in self._idle if not line.is_connected)
        self._later = deque()
        self._pid = os.getpid()

    def later(self, command: Command) -> None:
        """Send the command along with some later write; nobody reads its reply."""
        self._later.append(command)

    def _take_later(self) -> list[Command]:
        taken: list[Command] = []
        try:
            while len(taken) < 100:
                taken.append(self._later.popleft())
        except IndexError:  # empty; asking first would race with other threads
            pass
        return taken

    def _drop_idle(self) -> None:
        with contextlib.suppress(IndexError):  # other threads take lines at the same time
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Send what was put off and close all idle connections."""
        while self._later and self._pid == os.getpid():
            try:
                self._once(Exchange(((b"PING",),)))
            except LOST:
                self._later.clear()
        self._drop_idle()

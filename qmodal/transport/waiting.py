"""Failed exchanges, for all drivers: what counts as failed, when it is repeated, and the error in the end."""

from __future__ import annotations

import time

from qmodal.config import redacted
from qmodal.exception import ConnectionError, Error, RequestSizeError, clause
from qmodal.telemetry.events import SERVER_NOT_READY, emit
from qmodal.transport.connection import Address
from qmodal.transport.errors import (
    PASSING,
    ReplyAction,
    first_error,
    in_vain,
    is_answer,
    judge,
    to_exception,
)
from qmodal.transport.operation import PATIENCE_SECONDS, Exchange, Op, Reply

# Seconds to wait for a server that loads its data: gigabytes take minutes.
LOADING_SECONDS = 300.0
# Seconds before each retry; the last one repeats.
RETRY_DELAYS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# Seconds of waiting after which the reason is logged, and until it is logged again.
LOG_AFTER_SECONDS = 0.5
LOG_AGAIN_SECONDS = 60.0
# No server can be told to take less in one request.
SMALLEST_LIMIT = 1024 * 1024
log = SERVER_NOT_READY.log
_said: dict[str, float] = {}


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


def repeat_delay(attempt: int) -> float:
    """Seconds to wait before the given repetition (0 is the first): at once, then ever slower."""
    return RETRY_DELAYS[min(attempt, len(RETRY_DELAYS) - 1)]


class Wait:
    """The repetitions of one exchange that has failed; `begin` is when it began (monotonic seconds)."""

    __slots__ = ("_address", "_attempt", "_begin", "request")

    def __init__(self, address: Address, request: Exchange, begin: float) -> None:
        self._address = address
        self.request = request
        self._begin = begin
        self._attempt = 0

    @property
    def delay(self) -> float:
        """Seconds to wait now."""
        return repeat_delay(self._attempt - 1)

    @property
    def may_be_too_large(self) -> bool:
        """Whether the connection may end because of what was sent; true once."""
        return self._attempt == 3 and size_of(self.request) > SMALLEST_LIMIT

    def failed(self, error: Exception, *, is_lost: bool) -> ReplyAction:
        """What to do before the next try; raises what the error comes to if trying is in vain.

        `is_lost`: it was the connection that failed, or could not be made.
        """
        verdict = judge(error)
        if verdict not in PASSING and not (is_lost and verdict is ReplyAction.BROKEN):
            raise to_exception(error, verdict) from error
        waited = time.monotonic() - self._begin
        if waited > self._limit(verdict):
            raise self._gives_up(error, waited) from error
        if waited > LOG_AFTER_SECONDS and is_answer(error):
            self._say(error, self._limit(verdict))
        self._attempt += 1
        return verdict

    def _limit(self, verdict: ReplyAction) -> float:
        """Seconds for which that is waited out: a server that answers is worth more than none."""
        patience, loading = self.request.patience, self.request.loading
        if loading is None:
            loading = LOADING_SECONDS if patience >= PATIENCE_SECONDS else patience
        if verdict is ReplyAction.LOADING:
            return max(patience, loading)
        if verdict in PASSING:
            return max(patience, min(loading, PATIENCE_SECONDS))
        return patience

    def _gives_up(self, error: Exception, waited: float) -> Error:
        if not is_answer(error):
            return unreachable(self._address, error, size_of(self.request))
        return in_vain(error) or not_ready(self._address, error, waited)

    def _say(self, error: Exception, limit: float) -> None:
        now, where = time.monotonic(), redacted(self._address.url)
        if now - _said.get(where, -LOG_AGAIN_SECONDS) >= LOG_AGAIN_SECONDS:
            _said[where] = now
            emit(SERVER_NOT_READY, server=where, reason=clause(error), seconds=limit)


def size_of(request: Exchange) -> int:
    """About how many bytes an exchange sends."""
    return sum(len(part) for one in request.commands for part in one if type(part) is bytes)


def unreachable(address: Address, error: Exception, size: int = 0) -> ConnectionError:
    """The error for a server that did not come back within the patience of an exchange."""
    where, why = redacted(address.url), clause(error)
    hint = "Is the server up, and QMODAL_REDIS_URL right?"
    if size > SMALLEST_LIMIT:
        hint += f" Does it take requests of {size} bytes (proto-max-bulk-len, client-query-buffer-limit)?"
    return ConnectionError(f"Redis at {where} cannot be reached: {why}. {hint}")


def not_ready(address: Address, error: Exception, waited: float) -> ConnectionError:
    """The error for a server that answered, and did not become ready within our patience."""
    where, said = redacted(address.url), clause(error)
    hint = "Try again when it is."
    if "max number of clients" in said:
        hint = "Raise its maxclients (CONFIG SET maxclients), or end some of its clients."
    return ConnectionError(f"Redis at {where} is not ready, for {waited:.0f} s now: {said}. {hint}")


def check_size(request: Exchange) -> Op[None]:
    """Raise RequestSizeError if the server ends the connection because it takes no such request.

    It does so without a word. A server that is gone, or does not tell its limits, is none of this.
    """
    name = b"client-query-buffer-limit"
    try:
        ((_, limit),) = yield Exchange(((b"CONFIG", b"GET", name),), patience=0.0)
    except (Error, ValueError):
        return
    size = size_of(request)
    if size > int(limit):
        raise RequestSizeError(
            f"Redis ends the connection: the request has {size} bytes, and the server's "
            f"client-query-buffer-limit is {int(limit)}. Raise it, or write large values to shared "
            "storage and pass the place."
        )

"""What an error reply means for whoever sent the command: the one table of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from redis import exceptions as redis_errors

from qmodal.exception import ConfigurationError, EnqueueError, Error, InternalFailure
from qmodal.wording import clause


class Verdict(enum.Enum):
    """What to do about an error reply."""

    LOAD = "the script is not known there: load the scripts and repeat"
    RECONNECT = "the server cannot serve now: find it again and repeat"
    WAIT = "the server is busy with a script: repeat in a moment"
    GONE = "the stream or its group is gone: create it or leave"
    REFUSED = "the server has no room or cannot persist: tell the producer"
    DENIED = "the server does not let this user in, or not this far: tell the operator"
    REDIRECT = "a cluster node that does not hold the key"
    BROKEN = "none of the above can happen with our commands: a mistake of ours"


_BY_WORD = {
    "NOSCRIPT": Verdict.LOAD,
    "READONLY": Verdict.RECONNECT,
    "LOADING": Verdict.RECONNECT,
    "MASTERDOWN": Verdict.RECONNECT,
    "BUSY": Verdict.WAIT,
    "NOGROUP": Verdict.GONE,
    "UNBLOCKED": Verdict.GONE,
    "OOM": Verdict.REFUSED,
    "MISCONF": Verdict.REFUSED,
    "NOREPLICAS": Verdict.REFUSED,
    "NOAUTH": Verdict.DENIED,
    "WRONGPASS": Verdict.DENIED,
    "NOPERM": Verdict.DENIED,
    "MOVED": Verdict.REDIRECT,
    "ASK": Verdict.REDIRECT,
    "TRYAGAIN": Verdict.REDIRECT,
    "CLUSTERDOWN": Verdict.REDIRECT,
}
# redis-py strips the first word from the errors that it has a class for.
_BY_CLASS: tuple[tuple[type[Exception], Verdict], ...] = (
    (redis_errors.NoScriptError, Verdict.LOAD),
    (redis_errors.ReadOnlyError, Verdict.RECONNECT),
    (redis_errors.BusyLoadingError, Verdict.RECONNECT),
    (redis_errors.MasterDownError, Verdict.RECONNECT),
    (redis_errors.OutOfMemoryError, Verdict.REFUSED),
    (redis_errors.NoPermissionError, Verdict.DENIED),
    (redis_errors.AuthenticationError, Verdict.DENIED),
    (redis_errors.MovedError, Verdict.REDIRECT),
    (redis_errors.AskError, Verdict.REDIRECT),
    (redis_errors.TryAgainError, Verdict.REDIRECT),
    (redis_errors.ClusterDownError, Verdict.REDIRECT),
)


class StreamGoneError(Error):
    """The pool's stream or group is gone; join the pool again or leave it."""


def judge(error: Exception) -> Verdict:
    """What the error reply means."""
    for kind, verdict in _BY_CLASS:
        if isinstance(error, kind):
            return verdict
    text = str(error).strip()
    if "instance state changed" in text:  # a blocked reader's server became a replica
        return Verdict.RECONNECT
    if "ACL failure in script" in text or "user executing the script" in text:
        return Verdict.DENIED
    if "NOGROUP" in text:  # within a script the word is not the first
        return Verdict.GONE
    return _BY_WORD.get(text.partition(" ")[0].rstrip(":"), Verdict.BROKEN)


def first_error(replies: Iterable[object]) -> Exception | None:
    """The first error among replies."""
    for reply in replies:
        if isinstance(reply, Exception):
            return reply
    return None


def to_exception(error: Exception, verdict: Verdict) -> Error:
    """The exception that users see for an error which repeating does not mend."""
    match verdict:
        case Verdict.GONE:
            return StreamGoneError(str(error))
        case Verdict.REFUSED:
            return EnqueueError(f"Redis refused the write, so nothing was accepted: {error}")
        case Verdict.DENIED:
            return ConfigurationError(
                f"Redis does not let us in: {clause(error)}. Check the user and password in QMODAL_REDIS_URL "
                "and that the ACL allows qmodal's keys and channels."
            )
        case Verdict.REDIRECT:
            return ConfigurationError(
                f"the server is a Redis Cluster ({clause(error)}), which this version does not route to; "
                "point QMODAL_REDIS_URL at a single server or a Sentinel's master."
            )
        case _:
            return InternalFailure(f"Redis answered: {error}")

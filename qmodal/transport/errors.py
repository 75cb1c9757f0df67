"""The table of error replies: what each means for whoever sent the command."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from qmodal.exception import (
    ConfigurationError,
    EnqueueError,
    Error,
    InternalFailure,
    RequestSizeError,
    ResourceExhaustedError,
    clause,
)


class ReplyAction(enum.Enum):
    """What to do about an error reply."""

    LOAD = "the script is not known there: load the scripts and repeat"
    RECONNECT = "the server cannot serve now: find it again and repeat"
    LOADING = "the server reads its data back, which may take minutes: repeat until it has"
    WAIT = "the server is busy with a script: repeat in a moment"
    GONE = "the stream or its group is gone: create it or leave"
    FULL = "the server has no memory left: tell the producer"
    REFUSED = "the server cannot persist or replicate: tell the producer"
    TOO_LARGE = "the request is larger than the server takes: tell the producer"
    DENIED = "the server does not let this user in, or not this far: tell the operator"
    REDIRECT = "a cluster node that does not hold the key"
    FOREIGN = "the key is of another type: somebody else has written there"
    BROKEN = "none of the above can happen with our commands: a mistake of ours"


_BY_WORD = {
    "NOSCRIPT": ReplyAction.LOAD,
    "READONLY": ReplyAction.RECONNECT,
    "LOADING": ReplyAction.LOADING,
    "MASTERDOWN": ReplyAction.RECONNECT,
    "BUSY": ReplyAction.WAIT,
    "NOGROUP": ReplyAction.GONE,
    "UNBLOCKED": ReplyAction.GONE,
    "WRONGTYPE": ReplyAction.FOREIGN,
    "OOM": ReplyAction.FULL,
    "MISCONF": ReplyAction.REFUSED,
    "NOREPLICAS": ReplyAction.RECONNECT,
    "NOAUTH": ReplyAction.DENIED,
    "WRONGPASS": ReplyAction.DENIED,
    "NOPERM": ReplyAction.DENIED,
    "DENIED": ReplyAction.DENIED,
    "MOVED": ReplyAction.REDIRECT,
    "ASK": ReplyAction.REDIRECT,
    "TRYAGAIN": ReplyAction.RECONNECT,
    "CLUSTERDOWN": ReplyAction.RECONNECT,
}
# What an answer comes to that may pass and has not; the others are those of a server that is not ready.
_IN_VAIN = {
    "NOREPLICAS": ReplyAction.REFUSED,
    "TRYAGAIN": ReplyAction.REDIRECT,
    "CLUSTERDOWN": ReplyAction.REDIRECT,
}
# Where the first word says nothing.
_BY_TEXT = (
    ("instance state changed", ReplyAction.RECONNECT),  # a blocked reader's server became a replica
    ("max number of clients", ReplyAction.RECONNECT),
    ("Protocol error: ", ReplyAction.TOO_LARGE),
    ("ACL failure in script", ReplyAction.DENIED),
    ("user executing the script", ReplyAction.DENIED),
    ("NOGROUP", ReplyAction.GONE),  # within a script the word is not the first
    ("WRONGTYPE", ReplyAction.FOREIGN),
)
PASSING = (ReplyAction.LOAD, ReplyAction.RECONNECT, ReplyAction.LOADING, ReplyAction.WAIT)


class LostError(Exception):
    """A connection has ended, or could not be made, or whatever is there does not speak Redis's protocol."""


class ReplyError(Exception):
    """An error that a server has answered with, in its words."""


class StreamGoneError(Error):
    """The pool's stream or group is gone; join the pool again or leave it."""


class NoRoomError(EnqueueError, ResourceExhaustedError):
    """Redis has no memory left, so nothing was accepted; free some on the server and retry."""


class NotReadyError(LostError):
    """The server refused a connection for now, or said why it ended one."""


_NOTHING_ACCEPTED = "Redis refused the write, so nothing was accepted: {}"
_EXCEPTIONS: dict[ReplyAction, tuple[type[Error], str]] = {
    ReplyAction.GONE: (StreamGoneError, "{}"),
    ReplyAction.FULL: (NoRoomError, _NOTHING_ACCEPTED),
    ReplyAction.REFUSED: (EnqueueError, _NOTHING_ACCEPTED),
    ReplyAction.TOO_LARGE: (
        RequestSizeError,
        "Redis does not take a request of this size: {}. Raise the server's proto-max-bulk-len, "
        "or write large values to shared storage and pass the place.",
    ),
    ReplyAction.DENIED: (
        ConfigurationError,
        "Redis does not let us in: {}. Check the user and password in QMODAL_REDIS_URL "
        "and that the ACL allows qmodal's keys and channels.",
    ),
    ReplyAction.REDIRECT: (
        ConfigurationError,
        "the server is a Redis Cluster ({}), which this version does not route to; "
        "point QMODAL_REDIS_URL at a single server or a Sentinel's master.",
    ),
}


def judge(error: Exception) -> ReplyAction:
    """What the error reply means."""
    text = str(error).strip()
    for part, verdict in _BY_TEXT:
        if part in text:
            return verdict
    return _BY_WORD.get(_word(text), ReplyAction.BROKEN)


def _word(text: str) -> str:
    return text.partition(" ")[0].rstrip(":")


def first_error(replies: Iterable[object]) -> Exception | None:
    """The first error among replies."""
    for reply in replies:
        if isinstance(reply, Exception):
            return reply
    return None


def to_exception(error: Exception, verdict: ReplyAction) -> Error:
    """The exception that users see for an error which repeating does not mend."""
    kind, text = _EXCEPTIONS.get(verdict, (InternalFailure, "Redis answered: {}"))
    return kind(text.format(error if text.endswith("{}") else clause(error)))


def in_vain(error: Exception) -> Error | None:
    """The exception for an answer that was waited out and has not passed, None if it means "not ready"."""
    verdict = _IN_VAIN.get(_word(str(error).strip()), judge(error))
    return None if verdict in PASSING else to_exception(error, verdict)


def is_answer(error: Exception) -> bool:
    """Whether a server has said this, in the words that we know."""
    return judge(error) not in (ReplyAction.BROKEN, ReplyAction.FOREIGN)

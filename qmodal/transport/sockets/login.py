"""What a server answers to a login, and the errors that those answers come to."""

from __future__ import annotations

from collections.abc import Sequence

from qmodal.exception import ConfigurationError, clause
from qmodal.transport.errors import (
    PASSING,
    LostError,
    NotReadyError,
    ReplyAction,
    ReplyError,
    judge,
    to_exception,
)
from qmodal.transport.operation import Reply

# These concern the password; the first one comes where another user needs none.
_WRONG_PASSWORD = ("ERR AUTH ", "ERR invalid password", "WRONGPASS ", "NOAUTH ")
# Words for programs: what follows them is a sentence.
_CODES = ("ERR", "WRONGPASS", "NOAUTH", "NOPERM")


def refused(error: Exception) -> Exception:
    """The error for a server that answers, and says no to how we log in; or that it is not ready."""
    said = str(error)
    if judge(error) in PASSING:
        return NotReadyError(said)
    code, _, rest = said.partition(" ")
    sentence = rest if code in _CODES else said
    if said.startswith(_WRONG_PASSWORD):
        return to_exception(ReplyError(sentence), ReplyAction.DENIED)
    return ConfigurationError(
        f"Redis does not accept the connection: {clause(ReplyError(sentence))}. Check the database "
        "number, user and password in QMODAL_REDIS_URL."
    )


def check_login(replies: Sequence[Reply]) -> None:
    """Raise what a server answers that does not let us in: LostError or ConfigurationError."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise refused(reply) from reply
        if reply != b"OK":
            raise LostError(f"the server answers {reply!r} to a login")

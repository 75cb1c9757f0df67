"""Commands that are packed ahead, but for their last arguments: to pack one anew takes longer than to run it."""

from __future__ import annotations

from typing import Any


def head(*parts: Any, more: int) -> bytes:
    """The beginning of a command, behind which `more` arguments follow as `bulk` has them."""
    return b"".join((b"*%d\r\n" % (len(parts) + more), *map(bulk, parts)))


def bulk(part: Any) -> bytes:
    """One argument."""
    data = part if type(part) is bytes else str(part).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)

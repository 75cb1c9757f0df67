"""Commands that were put off until some later write, such as the deletions of delivered calls."""

from __future__ import annotations

from collections import deque

from qmodal.transport.operation import Command

# Commands put off that go along with one write.
MOST_DEFERRED = 100


def take_later(later: deque[Command]) -> list[Command]:
    """Take the first commands that were put off; deletions among them become one command.

    A server takes longer to begin a command than to delete a key.
    """
    taken: list[Command] = []
    deleted: list[str | bytes] = []
    try:  # with each call, so without a context manager
        for _ in range(MOST_DEFERRED):
            command = later.popleft()
            if command[0] == b"UNLINK":
                deleted += command[1:]
            else:
                taken.append(command)
    except IndexError:  # empty; asking first would race with other threads
        pass
    if deleted:
        taken.append((b"UNLINK", *deleted))
    return taken

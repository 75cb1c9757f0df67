"""The names of claimed entries, as a container writes them into its shared record."""

from __future__ import annotations

import re

Entry = tuple[int, str]  # lane, id
_NAME = re.compile(rb"([12]):(\d{1,20})-(\d{1,20})")


def name_of(lane: int, entry: str) -> str:
    """The name of a claimed entry in a record: lane and id."""
    return f"{lane}:{entry}"


def entry_of(name: bytes) -> Entry | None:
    """The entry of that name; None if the server would not accept its id."""
    found = _NAME.fullmatch(name)
    if found is None or max(map(int, found.groups())) >= 1 << 64:
        return None
    lane, entry = name.decode().split(":")
    return int(lane), entry

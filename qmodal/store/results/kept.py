"""Calls whose records are kept: those under way, and those whose results nobody has taken yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from qmodal.store.keys import Keys
from qmodal.store.results.outputs import CallRecord, read_record
from qmodal.transport.operation import Op, ask_one
from qmodal.transport.sharing.gather import gather
from qmodal.wire.ids import is_call_id

AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class KeptCalls:
    """Operations that find records of calls."""

    keys: Keys

    def scan(self, *, most: int, seconds: float) -> Op[list[str]]:
        """Ids of calls that have a record, in no order: at most `most`, and as many as are found in `seconds`."""
        found: dict[str, None] = {}
        # The start is the same for all shards but for its digits.
        pattern = self.keys.calls(0).replace("{s00}", "{s??}") + "fc-*"
        ends, cursor = time.monotonic() + seconds, b"0"
        while len(found) < most:
            scan = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", AT_ONCE, b"TYPE", b"hash")
            cursor, names = yield from ask_one(*scan)
            ids = (name.decode(errors="replace").rpartition(":")[2] for name in names)
            found |= dict.fromkeys(filter(is_call_id, ids))
            if cursor == b"0" or time.monotonic() > ends:
                break
        return list(found)[:most]

    def records(self, calls: Sequence[str]) -> Op[dict[str, CallRecord]]:
        """The records of those of the calls that have one, and that can be read."""
        found: dict[str, CallRecord] = {}
        for start in range(0, len(calls), AT_ONCE):
            chunk = calls[start : start + AT_ONCE]
            read = yield from gather(read_record(self.keys.call(call)) for call in chunk)
            pairs = zip(chunk, read, strict=True)
            found |= {call: record for call, record in pairs if isinstance(record, CallRecord)}
        return found

"""What becomes of inputs outside of their containers: said as events, and added to the statistics of their functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from qmodal.exception import Error
from qmodal.store import reading
from qmodal.store.apps import Apps
from qmodal.store.entries import TakenBack
from qmodal.store.history.statistics import Counts, Series, Statistics
from qmodal.store.keys import Keys
from qmodal.telemetry.events import INPUT_LOST, INPUT_REDELIVERED, emit
from qmodal.transport.operation import Op, ask_one
from qmodal.wire.ids import input_id, new_worker_id


def tell_taken_back(told: Sequence[TakenBack], reason: str, about: Mapping[str, str]) -> None:
    """Emit what has become of these inputs, which a container had started; `about`: its ids, and those of its pool."""
    for one in told:
        name, call, attempt = input_id(one.call, one.place), one.call, one.attempt
        if one.is_lost:
            emit(INPUT_LOST, input=name, call=call, attempt=attempt, reason=reason, **about)
        else:
            emit(INPUT_REDELIVERED, input=name, call=call, attempt=attempt, reason=reason, **about)


class Accounts:
    """Adds to statistics what a process does to inputs of any function; one for each who does it.

    Nothing is repeated: a server that cannot be reached costs these counts, and no input.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._apps = Apps(keys)
        self._statistics = Statistics(keys)
        self._name = new_worker_id()
        self._number = 0

    def place(self, pool: str) -> Op[tuple[str, str]]:
        """The app and the function of a pool, as its record says; empty if that does not."""
        key = self._keys.pool(pool)
        found: tuple[str, str] = ("", "")
        with suppress(Error):
            reply = yield from ask_one(b"HMGET", key, b"app", b"function")
            app, function = [reading.text(each or b"", key) or "" for each in reply]
            found = app, function
        return found

    def add(self, app: str, function: str, counts: Counts) -> Op[None]:
        """Add this to the statistics of the function of an app, which may be stopped by now."""
        changes = {name: amount for name, amount in counts.items() if amount}
        if not (changes and app and function):
            return
        with suppress(Error):
            record = yield from self._apps.record(app)
            if record is not None:
                self._number += 1
                series = Series(record.environment, record.name, function)
                yield from self._statistics.add(self._name, self._number, {series: changes})

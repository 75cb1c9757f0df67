"""Firing: the job that makes a call of one slot, once."""

from __future__ import annotations

import time

from qmodal.client.client import Client
from qmodal.services.control.figures import LATE_SECONDS, ControlFigures
from qmodal.services.control.schedules.calls import submit_slot
from qmodal.services.control.schedules.table import Key, Schedule, Table
from qmodal.store.objects.schedules import LastRun
from qmodal.telemetry.events import SCHEDULE_FIRED, SCHEDULE_LATE, emit
from qmodal.transport.operation import Op

# Of a schedule that is late again and again there is a line so often.
SAY_SECONDS = 60.0
# Where more is due than can be started, slots go that are so far behind a later one.
BEHIND_MS = 10_000


class Firing:
    """Makes calls of slots, in one process, which may share its table."""

    def __init__(self, client: Client, figures: ControlFigures, table: Table | None = None) -> None:
        self._client = client
        self._figures = figures
        self._table = table or Table(client)
        self._said: dict[Key, float] = {}

    def fire(self, app_id: str, function: str, slot: int, identity: str) -> str:
        """Submit the call of the slot of that cadence, unless it is over by now; what was done, for people."""
        return self._client.run(self._fire(app_id, function, slot, identity))

    def _fire(self, app_id: str, function: str, slot: int, identity: str) -> Op[str]:
        now, schedule = yield from self._table.find(app_id, function)
        if schedule is None or schedule.cadence.identity != identity:
            return "skipped: it has no such schedule any more"
        if schedule.cadence.next(slot - 1) != slot:  # of a schedule that it had before
            return "skipped: it has no such slot"
        if schedule.notes.is_paused:
            return "skipped: it is paused"
        if schedule.is_over(slot, now):
            return "skipped: that slot is over"
        following = schedule.cadence.next(slot)
        if following is not None and following <= now - BEHIND_MS:
            return "skipped: a later slot is due"
        call = yield from submit_slot(self._client, schedule, slot)
        run = LastRun(slot, now, call, identity)
        if (yield from self._client.schedules.note_run(app_id, function, run)):
            self._note(schedule, run)
        return call

    def _note(self, schedule: Schedule, run: LastRun) -> None:
        seconds = (run.at - run.slot) / 1000
        self._figures.fired(seconds)
        emit(SCHEDULE_FIRED, app=schedule.app, function=schedule.function, call=run.call)
        now = time.monotonic()
        if (
            seconds > LATE_SECONDS
            and now - self._said.get(schedule.key, -SAY_SECONDS) >= SAY_SECONDS
        ):
            self._said[schedule.key] = now
            emit(
                SCHEDULE_LATE,
                app=schedule.app,
                function=schedule.function,
                seconds=seconds,
                call=run.call,
            )

"""End what must not run twice when the server was silent for so long that our lease may end."""

from __future__ import annotations

import asyncio
import logging

from qmodal.transport.defects import survive
from qmodal_workers.ipc.shared_record import lease_clock
from qmodal_workers.roster import Container, Ending, Roster
from qmodal_workers.watch import Watch, is_running

LOOK_SECONDS = 0.1
CUT_OFF = "its worker was cut off from the server"
log = logging.getLogger("qmodal.worker")


class Silence:
    """Looks ten times a second at how long the lease is safe.

    To anybody else silence is no verdict. But once the lease has ended, others tell the callers
    of `delivery="at_most_once"` that their inputs were lost, and by then none of those may run.
    """

    def __init__(self, roster: Roster, watch: Watch) -> None:
        self._roster = roster
        self._watch = watch

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Kill them if the lease is not safe any more; one that starts looks itself."""
        if lease_clock() < self._roster.safe_until:
            return
        for container in self._roster.running():
            if container.options.is_once and container.report.state != "starting":
                with survive(f"the look at {container.id}"):
                    self._end(container)

    def _end(self, container: Container) -> None:
        """Kill it if it runs an input: the outcome of one that has ended waits for the server."""
        doing = container.doing()
        if doing is not None and not is_running(doing):
            return
        if container.ending is None:
            log.warning("%s ends: %s", container.id, CUT_OFF)
        self._watch.kill(container, Ending(CUT_OFF))

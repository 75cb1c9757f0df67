"""Watches the GPUs of a box: looks at them each second, knows which are lost, and which strangers use."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping

from qmodal.transport.defects import survive
from qmodal_workers.devices.health import Health
from qmodal_workers.devices.nvml import GpuFigures, Look
from qmodal_workers.devices.offered import OfferedGpus
from qmodal_workers.ipc.process_marks import is_marked
from qmodal_workers.ipc.processes import exists

LOOK_SECONDS = 1.0
# The driver may block for long while a GPU falls from its bus; after so long nothing is known any more.
STALE_SECONDS = 10.0
# For a look that somebody waits for.
PATIENCE_SECONDS = 2.0
# Memory that strangers may use of a GPU that is handed out: a desktop needs some of it.
STRANGE_SHARE, STRANGE_MIB = 0.05, 500


class GpuWatch:
    """The GPUs that a box offers and what the driver last said of them; declared ones are always well.

    `changed` is set when one is lost or has come back.
    """

    def __init__(self, offered: OfferedGpus) -> None:
        self.gpus = offered.gpus
        self.why_none = offered.why_none
        self.changed = asyncio.Event()
        self._nvml = offered.nvml
        self._health = Health(gpu.uuid for gpu in offered.gpus)
        self._last = offered.look or Look(at=0.0, error="nobody has looked yet")
        self._health.take(self._last)
        self._looking: asyncio.Future[Look] | None = None
        self._hinted = asyncio.Event()

    @property
    def lost(self) -> Mapping[str, str]:
        """The lost GPUs, and why each is so."""
        return self._health.lost

    @property
    def figures(self) -> Mapping[str, GpuFigures]:
        """What the driver last said, by UUID."""
        return self._last.gpus

    def hint(self) -> None:
        """Look at once: memory may have become free."""
        self._hinted.set()

    async def watch(self) -> None:
        """Look every second, for ever."""
        while True:
            self._hinted.clear()
            with survive("the look at the GPUs"):
                await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._nvml is None else LOOK_SECONDS):
                    await self._hinted.wait()

    async def look(self) -> None:
        """Take in a look that begins now, or the one that the driver has not answered yet; waits 2 s at most."""
        if self._nvml is None:
            return
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_future()
            thread = threading.Thread(target=self._look, args=(self._looking,), daemon=True)
            thread.start()  # one of our own, as the worker's end would wait for those of the loop
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.shield(self._looking)

    def _look(self, answer: asyncio.Future[Look]) -> None:
        assert self._nvml is not None
        if self._health.lost or self._last.error:
            self._nvml.reopen()
        look = self._nvml.look()
        with contextlib.suppress(RuntimeError):  # the worker has ended meanwhile
            answer.get_loop().call_soon_threadsafe(self._take, answer, look)

    def _take(self, answer: asyncio.Future[Look], look: Look) -> None:
        before = self._health.lost
        self._last, self._looking = look, None
        self._health.take(look)
        if self._health.lost != before:
            self.changed.set()
        if not answer.done():
            answer.set_result(look)

    def is_usable(self, uuid: str, *, since: float = 0.0, is_shared: bool = False) -> bool:
        """Whether a container may have (a share of) it.

        `since`: when the last one left it, in monotonic seconds: what was seen before says nothing.
        `is_shared`: others of this box have it already, so that memory in use may be theirs.
        """
        if uuid in self._health.lost:
            return False
        if self._nvml is None:
            return True
        seen = self._last.gpus.get(uuid)
        if (
            seen is None
            or self._last.at <= since
            or self._last.at < time.monotonic() - STALE_SECONDS
        ):
            self.hint()
            return False
        return not is_strange(seen, is_shared=is_shared)

    def is_used_by_strangers(self, uuid: str, *, since: float, is_leased: bool) -> bool:
        """Whether somebody else used it when it was looked at, after `since`."""
        seen = self._last.gpus.get(uuid)
        return seen is not None and self._last.at > since and is_strange(seen, is_shared=is_leased)


def is_strange(figures: GpuFigures, *, is_shared: bool) -> bool:
    """Whether more memory is in use than nobody needs: of strangers' processes, or at all where none of ours has it."""
    most = min(STRANGE_MIB, STRANGE_SHARE * figures.total)
    if figures.used <= most:
        return False
    theirs = sum(
        mib for pid, mib in figures.processes.items() if exists(pid) and not is_marked(pid)
    )
    return not is_shared or theirs > most

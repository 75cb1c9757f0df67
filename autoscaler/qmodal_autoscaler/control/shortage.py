"""What the fleet lacks, and has lacked for some time, is told to a command of the operator's, which may add boxes."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from qmodal.client.client import Client
from qmodal.spec.needs.needs import MEBIBYTE, Needs
from qmodal.transport.defects import survive
from qmodal_autoscaler.control.shortage_command import ShortageCommand

Wanted = Mapping[Needs, int]
# Between two looks, and the seconds for which something has to be lacking: that containers wait for a moment is usual.
LOOK_SECONDS = 1.0
LASTING_SECONDS = 10.0


class Lasting:
    """What was lacking at each look of the last `seconds`: of each kind of container the least number."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._looks: deque[tuple[float, Wanted]] = deque()

    def look(self, wanted: Wanted, now: float) -> dict[Needs, int]:
        """Take in what is lacking now; what has been for all of the time, nothing before that is over."""
        if not wanted:
            self._looks.clear()
            return {}
        looks = self._looks
        looks.append((now, wanted))
        # The oldest look that is kept is the last one that is old enough.
        while len(looks) > 1 and looks[1][0] <= now - self._seconds:
            looks.popleft()
        if looks[0][0] > now - self._seconds:
            return {}
        least = {needs: min(each.get(needs, 0) for _, each in looks) for needs in wanted}
        return {needs: count for needs, count in least.items() if count}


class ShortageWatch:
    """A leader's loop that has the command run while something is lacking; `boxes` says how many boxes there are."""

    def __init__(
        self,
        client: Client,
        command: ShortageCommand,
        wanted: Callable[[], Wanted],
        boxes: Callable[[], int],
    ) -> None:
        self._client = client
        self._command = command
        self._wanted = wanted
        self._boxes = boxes

    async def watch(self) -> None:
        """Watch for ever. Whatever becomes of the command, the leader leads on."""
        lasting, loop = Lasting(LASTING_SECONDS), asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with survive("telling the command for shortages"):
                wanted = lasting.look(self._wanted(), loop.time())
                if wanted and await self._is_due():
                    await self._command.run(*described(wanted, self._boxes()))
                    lasting = Lasting(LASTING_SECONDS)

    async def _is_due(self) -> bool:
        """Whether no leader has had the command run lately."""
        return await self._client.aio(self._client.fleet.call_for_boxes(self._command.every))


def described(wanted: Wanted, boxes: int) -> tuple[bytes, dict[str, str]]:
    """What a command reads, and its variables: all that is wanted, the most of a kind first."""
    rows = sorted(wanted.items(), key=lambda row: (-row[1], str(row[0])))
    told = {"boxes": boxes, "wanted": [_told(needs, count) for needs, count in rows]}
    gpus = sum(count * needs.gpus[0].amount for needs, count in rows if needs.gpus)
    variables = {
        "QMODAL_BOXES": boxes,
        "QMODAL_WANTED": sum(wanted.values()),
        "QMODAL_WANTED_GPUS": math.ceil(round(gpus, 6)),
    }
    return json.dumps(told).encode() + b"\n", {name: str(n) for name, n in variables.items()}


def _told(needs: Needs, count: int) -> dict[str, Any]:
    return {
        "containers": count,
        "gpu": list(map(str, needs.gpus)),
        "cpu": needs.cpu,
        "memory": None if needs.memory is None else needs.memory // MEBIBYTE,
        "region": list(needs.regions),
    }

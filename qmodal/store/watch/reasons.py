"""Reasons: why a pool does not get the containers that it wants, or why nobody works on it, as kinds with a text for each.

What the leader says of pools travels as plain data that anybody with the server's password may have written. So only the kind
and one printable line are taken from there; the advice for a kind, which names commands, is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import msgpack

from qmodal.store import reading
from qmodal.telemetry.printable import printable
from qmodal.transport.defects import skip

Kind = Literal[
    "fleet",
    "workers",
    "autoscaler",
    "paused",
    "stopped",
    "unreadable",
    "failing",
    "impossible",
    "cordoned",
    "python",
    "silent",
    "gpu",
    "room",
    "lent",
    "maximum",
    "window",
    "starting",
    "placing",
    "retry",
    "enough",
    "idle",
]
# Pools of which the leader says the reason, different texts among these, and characters of one text.
MOST_POOLS, MOST_TEXTS, LONGEST_TEXT = 1000, 250, 400
REASONS_MS = 5_000


class Wording(NamedTuple):
    """What people are told of a kind: in a list, in a sentence behind "… waits:", and what they can do."""

    short: str
    text: str
    advice: str = ""


_WORKER = "Start `qmodal worker`"
WORDING: Mapping[Kind, Wording] = MappingProxyType(
    {
        "fleet": Wording(
            "no worker, no autoscaler",
            "no worker and no autoscaler use {server}",
            "Start `qmodal up` on this machine, or `qmodal worker` on the machines that shall run it "
            "and `qmodal autoscaler` on one of them",
        ),
        "workers": Wording(
            "no worker",
            "no worker uses {server}",
            f"{_WORKER} on the machines that shall run it",
        ),
        "autoscaler": Wording(
            "no autoscaler",
            "no autoscaler uses {server}",
            "Start `qmodal autoscaler` on some machine",
        ),
        "paused": Wording(
            "paused", "its pool is paused", "`qmodal pool resume {pool}` lets it go on"
        ),
        "stopped": Wording(
            "app stopped", "nothing of it runs any more: {detail}", "Run or deploy the app again"
        ),
        "unreadable": Wording(
            "cannot be read",
            "the autoscaler cannot tell what it needs: {detail}",
            "Deploy the app again, with the key of this server; `qmodal doctor` checks the key",
        ),
        "failing": Wording(
            "starts fail",
            "its containers do not start: {detail}",
            "`qmodal app logs` shows what they have printed",
        ),
        "impossible": Wording(
            "no box can run it",
            "no box can run it, whatever else runs: {boxes}",
            f"{_WORKER} on a box that has what it needs, or have the function ask for less",
        ),
        "cordoned": Wording(
            "boxes cordoned",
            "the boxes that can run it are cordoned: {boxes}",
            "`qmodal worker uncordon` lets a box have containers again",
        ),
        "python": Wording(
            "another Python",
            "its inputs need another Python or qmodal than there is on {boxes}",
            f"{_WORKER} there with the Python of the program that calls it",
        ),
        "silent": Wording(
            "box does not start it",
            "{boxes} does not start what it is assigned",
            "Look at the log of that worker, or restart it",
        ),
        "gpu": Wording(
            "no free GPU",
            "no GPU {gpus} is free on {boxes}",
            "It gets one in its turn; another box with such a GPU helps",
        ),
        "room": Wording(
            "no room",
            "no worker has room: {detail}",
            "Start another worker, or one with a higher --max-containers; `qmodal container list` "
            "shows what runs",
        ),
        "lent": Wording(
            "made room",
            "{which} lately made room for pools that had fewer",
            "It gets containers again in its turn; another worker helps",
        ),
        "maximum": Wording(
            "at max_containers",
            "it may have no more containers (`max_containers` is {most})",
            "A higher `max_containers` lets it have more, also while it runs: `autoscaler.update`",
        ),
        "window": Wording(
            "in scaleup_window",
            "it has needed more containers for less than its `scaleup_window` of {most} s",
            "A shorter `scaleup_window` lets it grow sooner, also while it runs: `autoscaler.update`",
        ),
        "starting": Wording("starting", "{which} starts, for {seconds:.1f} s so far"),
        "placing": Wording("starts soon", "a container for it is about to be started"),
        "retry": Wording(
            "waits for a retry",
            "{count} of its inputs wait for their retry{when}",
        ),
        "enough": Wording(
            "enough containers",
            "{count} containers are enough for what waits: another one would not be ready sooner",
        ),
        "idle": Wording("nothing waits", "nothing waits in it"),
    }
)
# Kinds that a leader says; the others follow from what anybody can see.
SAID_BY_LEADERS = tuple(
    kind
    for kind in WORDING
    if kind not in ("fleet", "workers", "autoscaler", "retry", "enough", "idle")
)
# Kinds that mean that a pool has to wait for its turn.
IN_LINE: frozenset[Kind] = frozenset({"gpu", "room", "lent"})
# Kinds that mean that all is as it should be.
CALM: frozenset[Kind] = frozenset({"starting", "placing", "retry", "enough", "idle"})


class Reason(NamedTuple):
    """Why a pool waits: the kind, one line about it, and how many pools get room before it."""

    kind: Kind
    text: str
    ahead: int = 0

    @classmethod
    def of(cls, kind: Kind, **facts: object) -> Reason:
        """The reason of that kind, whose text has these facts."""
        return cls(kind, line_of(WORDING[kind].text.format(**facts)))

    @classmethod
    def starting(cls, since: Sequence[int], now: float) -> Reason:
        """That containers start, by when each began to, and the time now; in ms of the server."""
        count, seconds = len(since), max(0.0, now - min(since)) / 1000
        which = "a container for it" if count == 1 else f"the first of {count} containers"
        return cls.of("starting", which=which, seconds=seconds)

    @classmethod
    def lent(cls, count: int) -> Reason:
        """That so many containers have ended for others."""
        have = "has" if count == 1 else "have"
        return cls.of("lent", which=f"{count} of its containers {have}")

    @property
    def short(self) -> str:
        """As lists have it."""
        return WORDING[self.kind].short

    @property
    def full(self) -> str:
        """The line, with the pools that are ahead."""
        if not self.ahead:
            return self.text
        pools = "1 pool is" if self.ahead == 1 else f"{self.ahead} pools are"
        return f"{self.text}, and {pools} ahead of it"

    def sentence(self, pool: str) -> str:
        """The line, and what to do; `pool` is the pool's id."""
        advice = WORDING[self.kind].advice.format(pool=pool)
        return f"{self.full}. {advice}" if advice else self.full


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why the pools wait that want more containers than they have, as the leader has said lately; by their ids."""

    of: Mapping[str, Reason] = field(default_factory=dict)

    def packed(self) -> bytes:
        """As it travels; no more than MOST_POOLS pools and MOST_TEXTS texts, the first ones."""
        texts: dict[tuple[Kind, str], int] = {}
        pools, which, ahead = list[str](), list[int](), list[int]()
        for pool, reason in self.of.items():
            number = texts.setdefault(reason[:2], len(texts))
            if number < MOST_TEXTS and len(pools) < MOST_POOLS:
                pools.append(pool)
                which.append(number)
                ahead.append(reason.ahead)
        kinds, lines = zip(*list(texts)[:MOST_TEXTS], strict=True) if texts else ((), ())
        packed: bytes = msgpack.packb(
            {"kinds": kinds, "texts": lines, "pools": pools, "which": which, "ahead": ahead}
        )
        return packed

    @classmethod
    def opened(cls, packed: bytes | None, where: str) -> Reasons:
        """What somebody has written there; nothing of what is odd."""
        found = None if packed is None else reading.report(packed, _Packed, where)
        if found is None:
            return cls()
        if not found.is_sound:
            skip(where, "its parts do not fit together")
            return cls()
        known = get_args(Kind)
        reasons = [
            Reason(kind, line_of(text)) if kind in known else None  # type: ignore[arg-type]
            for kind, text in zip(found.kinds, found.texts, strict=True)
        ]
        rows = zip(found.pools, found.which, found.ahead, strict=True)
        return cls(
            {
                pool: reason._replace(ahead=min(ahead, 10**9))
                for pool, number, ahead in rows
                if (reason := reasons[number]) is not None
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """Reasons by number, and of each pool the number of its reason, and the pools ahead of it."""

    kinds: tuple[str, ...]
    texts: tuple[str, ...]
    pools: tuple[str, ...]
    which: tuple[int, ...]
    ahead: tuple[int, ...]

    @property
    def is_sound(self) -> bool:
        """Whether the numbers are numbers of reasons, and there are no more of anything than may be."""
        pools, texts = len(self.pools), len(self.texts)
        return (
            pools == len(self.which) == len(self.ahead)
            and pools <= MOST_POOLS
            and texts == len(self.kinds) <= MOST_TEXTS
            and all(0 <= number < texts for number in self.which)
            and all(ahead >= 0 for ahead in self.ahead)
        )


def line_of(text: str) -> str:
    """On one line that a terminal can show, whatever somebody has written, and not too long."""
    shown = printable(" ".join(text[: 2 * LONGEST_TEXT].split()))
    return shown if len(shown) <= LONGEST_TEXT else f"{shown[: LONGEST_TEXT - 1]}…"

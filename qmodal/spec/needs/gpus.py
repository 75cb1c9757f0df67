"""GPUs as values: what a function asks for, and what a box has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from qmodal.exception import InvalidError

ANY = "ANY"
MOST_GPUS = 64
MOST_SHARES = 16
_NEED = re.compile(
    r"(?P<kind>[A-Za-z0-9][A-Za-z0-9+._-]*)(?P<exact>!?)(?::(?P<amount>[0-9]+(?:\.[0-9]+)?|1/[0-9]+))?"
)
# Parts of the names that drivers give, which say nothing about the kind.
_NOISE = frozenset(
    {
        "NVIDIA",
        "TESLA",
        "GEFORCE",
        "GRAPHICS",
        "DEVICE",
        "GPU",
        "PCIE",
        "NVL",
        "HBM2",
        "HBM3",
        "HBM3E",
    }
)
_SIZE = re.compile(r"([0-9]+)GB")
_SOCKET = re.compile(r"SXM[0-9]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNeed:
    """GPUs that one container needs: `count` of a kind, or one of `shares` equal shares of a single GPU.

    `kind` is in capitals, "ANY" for every kind. Written as "A100", "A100-80GB:2", "any", "L4:0.5" or "L4:1/3".
    "H100!" is the same as "H100": a GPU of another kind never stands in for it.
    """

    kind: str
    count: int = 1
    shares: int = 1

    @classmethod
    def parse(cls, text: str, name: str = "gpu") -> GpuNeed:
        """The need in one text of the option `name`; raises InvalidError."""
        found = _NEED.fullmatch(text)
        amount = _amount(found["amount"]) if found else None
        if found is None or amount is None:
            raise InvalidError(
                f'`{name}` must look like "A100", "A100:2" (several) or "A100:0.5" (a share of one: 1/2 to '
                f"1/{MOST_SHARES}), not {text!r}"
            )
        count, shares = amount
        return cls(kind=found["kind"].upper(), count=count, shares=shares)

    def __str__(self) -> str:
        kind = "any" if self.kind == ANY else self.kind
        if self.shares > 1:
            return f"{kind}:1/{self.shares}"
        return kind if self.count == 1 else f"{kind}:{self.count}"

    def fits(self, gpu: Gpu) -> bool:
        """Whether a GPU of the box is of the kind."""
        return self.kind == ANY or self.kind in gpu.kinds

    @property
    def amount(self) -> float:
        """How many GPUs it takes."""
        return self.count / self.shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU of a box: its UUID, its kind ("A100-80GB", the most exact name) and its memory in MiB."""

    uuid: str
    kind: str
    memory: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that a function may call it: "A100-80GB" is an "A100", too."""
        parts = self.kind.split("-")
        return tuple("-".join(parts[:n]) for n in range(len(parts), 0, -1))

    @property
    def text(self) -> str:
        """As it travels in the record of a box."""
        return f"{self.uuid} {self.memory} {self.kind}"

    @classmethod
    def parse(cls, text: str) -> Gpu | None:
        """The GPU that `text` describes; None for anything else."""
        parts = text.split(" ")
        if len(parts) != 3 or not all(parts) or not parts[1].isdecimal() or len(text) > 200:
            return None
        return cls(uuid=parts[0], memory=int(parts[1][:9]), kind=parts[2].upper())


def kind_of(name: str, memory: int = 0) -> str:
    """The kind of a GPU that its driver calls `name`, with `memory` MiB: "NVIDIA A100-SXM4-80GB" is an "A100-80GB"."""
    words = [part for part in re.split(r"[ \-/_]+", name.upper()) if part]
    size = next((found for found in map(_SIZE.fullmatch, words) if found), None)
    kept = [
        word
        for word in words
        if word not in _NOISE and not _SIZE.fullmatch(word) and not _SOCKET.fullmatch(word)
    ]
    kind = "-".join(kept) or "GPU"
    if size is not None:
        return f"{kind}-{size[1]}GB"
    return kind if not memory else f"{kind}-{round(memory / 1024)}GB"


def gpu_needs(value: str | tuple[str, ...] | None) -> tuple[GpuNeed, ...]:
    """What the option `gpu` asks for: alternatives, the best one first. Empty if it needs none."""
    if not value:
        return ()
    return tuple(map(GpuNeed.parse, (value,) if isinstance(value, str) else value))


def expand(text: str, host: str) -> tuple[Gpu, ...]:
    """The GPUs that "4xA100" or "2xA100,1xL4" declares for a box; raises InvalidError.

    They have UUIDs that are the same whenever that box declares the same.
    """
    found: list[Gpu] = []
    for part in text.split(","):
        matched = re.fullmatch(r"(?:([1-9][0-9]?)x)?([A-Za-z0-9][A-Za-z0-9+._-]*)", part.strip())
        if matched is None:
            raise InvalidError(f'GPUs are declared as "4xA100" or "2xA100,1xL4", not as {text!r}')
        one = Gpu(uuid="", kind=matched[2].upper())
        for _ in range(int(matched[1] or 1)):
            found.append(replace(one, uuid=f"GPU-{host}-{len(found)}"))
    return tuple(found)


def _amount(text: str | None) -> tuple[int, int] | None:
    """Count and shares; None if there is no such amount."""
    if text is None:
        return 1, 1
    if text.startswith("1/"):
        shares = int(text[2:])
        return (1, shares) if 1 <= shares <= MOST_SHARES else None
    amount = float(text)
    if amount >= 1:
        return (int(amount), 1) if amount == int(amount) <= MOST_GPUS else None
    shares = round(1 / amount) if amount else 0
    is_share = 2 <= shares <= MOST_SHARES and abs(1 / shares - amount) < 0.005
    return (1, shares) if is_share else None

"""What a box offers to containers, and why it could not run one of a function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qmodal.spec.needs.gpus import Gpu, GpuNeed
from qmodal.spec.needs.needs import MEBIBYTE, Needs

# Boxes that one line names.
MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A box as containers see it: `cpus`, `memory` in bytes, its GPUs, and its labels ("zone=a", "eu")."""

    cpus: float
    memory: int
    gpus: tuple[Gpu, ...] = ()
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, cpus: float, memory: int, gpus: Iterable[str], labels: Iterable[str]) -> Offer:
        """What a box offers that reports this of itself; GPUs that cannot be read are left out."""
        known = tuple(gpu for gpu in map(Gpu.parse, gpus) if gpu is not None)
        return cls(cpus=cpus, memory=memory, gpus=known, labels=tuple(labels))

    def lacks(self, needs: Needs) -> str:
        """What the box lacks to run one container with these needs, while nothing else runs there; empty if nothing."""
        if needs.regions and not any(map(self.is_in, needs.regions)):
            return f"it has no label {' or '.join(needs.regions)}"
        if needs.cpu is not None and needs.cpu > self.cpus:
            return f"it offers {self.cpus:g} CPUs, and {needs.cpu:g} are needed"
        if needs.memory is not None and needs.memory > self.memory:
            return f"it offers {self.memory // MEBIBYTE} MiB of memory, and {needs.memory // MEBIBYTE} are needed"
        if needs.gpus and not any(map(self.has, needs.gpus)):
            have = ", ".join(sorted(gpu.kind for gpu in self.gpus)) or "none"
            return f"it has no GPU {' or '.join(map(str, needs.gpus))} (it has {have})"
        return ""

    def is_in(self, region: str) -> bool:
        """Whether one of its labels is the region: "eu" itself, or "region=eu", "zone=eu" and the like."""
        return any(region in (label, label.partition("=")[2]) for label in self.labels)

    def has(self, need: GpuNeed) -> bool:
        """Whether it has as many GPUs of the kind as are needed."""
        return sum(map(need.fits, self.gpus)) >= need.count


def impossible(needs: Needs, offers: Sequence[Offer]) -> bool:
    """Whether none of these boxes could ever run a container with these needs; not while there is no box at all."""
    return bool(offers) and all(each.lacks(needs) for each in offers)


def each_lack(lacks: Iterable[tuple[str, str]]) -> str:
    """Names of boxes with what each lacks, on one line; those that lack the same together."""
    by_lack: dict[str, list[str]] = {}
    for name, lack in lacks:
        by_lack.setdefault(lack, []).append(name)
    return some_of([f"{some_of(names, ', ')}: {lack}" for lack, names in by_lack.items()], "; ")


def some_of(texts: Sequence[str], between: str) -> str:
    """The first of these texts, and how many there are beside them."""
    more = len(texts) - MOST_NAMED
    return between.join([*texts[:MOST_NAMED], *([f"{more} others"] if more > 0 else [])])

"""Which GPUs a container gets, as pure functions: the first alternative that is there, and the tightest fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qmodal.spec.needs.gpus import Gpu, GpuNeed


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """A GPU and what is leased of it: `taken` of `shares` equal shares (1 of 1: the whole).

    `is_usable`: not lost, and not in use by strangers; a worker that cannot know says no.
    """

    gpu: Gpu
    taken: int = 0
    shares: int = 1
    is_usable: bool = True

    def takes(self, need: GpuNeed) -> bool:
        """Whether what one container needs of a GPU is free here."""
        if not (self.is_usable and need.fits(self.gpu)):
            return False
        return not self.taken or (self.shares == need.shares > self.taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The GPUs for one container: whole ones, or one of `shares` equal shares of a single one."""

    gpus: tuple[Gpu, ...]
    shares: int = 1


def choose(needs: Sequence[GpuNeed], states: Sequence[GpuState]) -> Choice | None:
    """The best GPUs for a container that needs one of these alternatives; None if none is free now.

    Shares go to the GPU that is cut in as many already, and most of it taken; whole ones are those with the
    least memory, and of one kind if there are as many.
    """
    for need in needs:
        free = [state for state in states if state.takes(need)]
        # A sort that keeps the order of the box among equal ones.
        free.sort(key=lambda state: (-state.taken, state.gpu.memory))
        if len(free) >= need.count:
            return Choice(gpus=_alike(free, need.count), shares=need.shares)
    return None


def _alike(free: Sequence[GpuState], count: int) -> tuple[Gpu, ...]:
    """So many of them: the first kind that has enough, else the first ones of any kind."""
    groups = (*_kinds(free), free)
    chosen = next(group for group in groups if len(group) >= count)
    return tuple(state.gpu for state in chosen[:count])


def _kinds(free: Sequence[GpuState]) -> Iterator[list[GpuState]]:
    kinds = dict.fromkeys((state.gpu.kind, state.gpu.memory) for state in free)
    for kind in kinds:
        yield [state for state in free if (state.gpu.kind, state.gpu.memory) == kind]

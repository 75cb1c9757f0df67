"""What a container counts for on its box: the leader places others by it, and people are shown the same."""

from __future__ import annotations

from qmodal.spec.needs.needs import MEBIBYTE, Needs

# A container of a pool of which nothing is measured yet counts so much, where that is what decides: four for each processor.
ASSUMED_CPU = 0.25
ASSUMED_MEMORY = 128 * MEBIBYTE


def counted_cpu(
    needs: Needs, measured: float | None, *, is_measured: bool, is_idle: bool = False
) -> float:
    """CPUs: as declared; else as measured while it runs inputs, on a box where what is measured decides.

    `measured`: of its pool, None while nobody knows. `is_measured`: whether its box takes as many as it carries.
    """
    if needs.cpu is not None:
        return needs.cpu
    if not is_measured or is_idle:
        return 0.0
    return ASSUMED_CPU if measured is None else measured


def counted_memory(needs: Needs, measured: int | None, *, is_measured: bool) -> int:
    """Bytes: as declared, else as measured of its pool, whether it runs inputs or not."""
    if needs.memory is not None:
        return needs.memory
    if measured is not None:
        return measured
    return ASSUMED_MEMORY if is_measured else 0

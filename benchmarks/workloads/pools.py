"""Workloads of many pools: W13, parameter pools with one input each, and W14, the same beside a large backlog."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench, CannotError


async def w13(bench: Bench) -> None:
    """Parameter pools with one no-op each: a few hundred, then thousands."""
    for measure, pools in (("pools", bench.sizes.pools), ("many pools", bench.sizes.many_pools)):
        figures = await _figures(bench, pools, 0)
        bench.emit(measure, figures.rate, count=pools, seconds=figures.seconds)
        bench.emit(f"{measure} autoscaler", figures.autoscaler_share, cpu=figures.autoscaler_cpu)


async def w14(bench: Bench) -> None:
    """Parameter pools, and after them one pool with a million inputs, which wants all the room there is."""
    for prefix, pools in (("", bench.sizes.pools), ("many ", bench.sizes.many_pools)):
        figures = await _figures(bench, pools, bench.sizes.backlog)
        bench.emit(f"{prefix}pools beside", figures.rate, count=pools, done=figures.large_done)
        bench.emit(f"{prefix}backlog first", figures.large_first, count=figures.backlog)
        bench.emit(f"{prefix}backlog", figures.large_seconds, count=figures.backlog)


async def _figures(bench: Bench, pools: int, backlog: int) -> Any:
    if not hasattr(bench.own, "turn_over"):
        await bench.subject.open()  # it is closed at the end
        raise CannotError("has no pools with parameters")
    return bench.own.turn_over(bench, pools, backlog)

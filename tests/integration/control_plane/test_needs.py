"""Boxes with GPUs, CPUs and labels: the leader places what fits, keeps off what is cordoned, and says what is lacking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.store.fleet import ContainerReport
from tests.support.stage import PaintedWorker, Stage, autoscaling, options


@pytest.fixture
def stage(client: Client, settings: Settings) -> Iterator[Stage]:
    with autoscaling(settings):
        made = Stage(client)
        yield made
        made.close()


def gpu_box(stage: Stage, *gpus: str, kind: str = "L4", **about: Any) -> PaintedWorker:
    """A box with these GPUs, which leases the first ones that are free."""
    offers = {
        "gpus": tuple(f"{uuid} 100 {kind}" for uuid in gpus),
        "cpus": 8.0,
        "memory": 2**34,
        **about.pop("offers", {}),
    }
    worker = stage.worker(offers=offers, **about)

    def leased(report: ContainerReport) -> ContainerReport:
        taken = {uuid for each in worker.roster.values() for uuid in each.gpus if not each.is_over}
        free = [uuid for uuid in gpus if uuid not in taken]
        wants = 1 if report.pool == stage.pools.get("gpu") else 0
        return replace(report, state="ready", start_ms=1, gpus=tuple(free[:wants]))

    worker.fate = leased
    return worker


def held(*workers: PaintedWorker) -> list[str]:
    """The GPUs that containers have."""
    return sorted(
        uuid for worker in workers for each in worker.roster.values() for uuid in each.gpus
    )


def test_no_more_containers_are_assigned_than_there_are_gpus_and_others_do_not_wait(
    stage: Stage,
) -> None:
    worker = gpu_box(stage, "GPU-a", "GPU-b", ahead=8)
    stage.publish(gpu=options(gpu="L4"), plain=options())
    stage.submit("gpu", count=5)
    stage.until(lambda: len(stage.assigned("gpu")) == 2, "one for each GPU")
    stage.submit("plain", count=3)
    stage.until(lambda: len(stage.assigned("plain")) == 3, "the others")
    stage.until(lambda: held(worker) == ["GPU-a", "GPU-b"], "both are leased")
    assert len(stage.assigned("gpu")) == 2
    # One ends: its GPU is free for the next.
    name = next(name for name, each in worker.roster.items() if each.gpus)
    worker.becomes(name, state="ended")
    stage.until(lambda: name not in worker.assigned(), "it is taken off")
    stage.until(lambda: held(worker) == ["GPU-a", "GPU-b"], "both are leased again")


def test_a_gpu_that_two_boxes_report_counts_once(stage: Stage) -> None:
    first = gpu_box(stage, "GPU-a")
    gpu_box(stage, "GPU-b", "GPU-a")
    stage.publish(gpu=options(gpu="L4"))
    stage.submit("gpu", count=5)
    stage.until(lambda: len(stage.assigned("gpu")) == 2, "one for each GPU")
    for _ in range(3):
        stage.submit("gpu")
    assert len(first.assigned()) <= 1
    assert len(stage.assigned("gpu")) == 2


def test_a_box_may_change_what_it_offers_and_what_no_box_has_waits_for_one(stage: Stage) -> None:
    worker = gpu_box(stage, "GPU-a")
    worker.offer(labels=("zone=us",))
    stage.publish(
        gpu=options(gpu="H100"), wide=options(cpu=16.0), far=options(region="eu"), plain=options()
    )
    for name in ("gpu", "wide", "far", "plain"):
        stage.submit(name)
    stage.until(lambda: stage.assigned("plain"), "what fits runs")
    assert not any(stage.assigned(name) for name in ("gpu", "wide", "far"))
    worker.offer(cpus=16.0, labels=("zone=eu",))
    stage.until(lambda: stage.assigned("wide") and stage.assigned("far"), "they fit now")
    worker.offer(gpus=("GPU-h 100 H100",))
    stage.until(lambda: stage.assigned("gpu"), "so does that")


def test_a_cordoned_box_gets_nothing_until_it_is_uncordoned(stage: Stage) -> None:
    worker = stage.worker(max_containers=4)
    stage.publish(f=options())
    boxes = stage.client.boxes
    assert stage.client.run(boxes.cordon(worker.name))
    stage.submit("f")
    other = stage.worker(max_containers=4)
    stage.until(lambda: other.assigned(), "it runs on the other one")
    assert not worker.assigned()
    assert stage.client.run(boxes.cordon(other.name))
    assert stage.client.run(boxes.uncordon(worker.name))
    stage.submit("f", count=3)
    stage.until(lambda: worker.assigned(), "the rest runs here")
    assert len(other.assigned()) == 1


def test_what_pools_are_measured_to_use_is_what_a_box_without_a_number_carries(
    stage: Stage,
) -> None:
    about = {"cpus": 2.0, "memory": 2**34, "is_measured": True}
    stage.worker(max_containers=32, offers=about)
    stage.publish(cpu=options(), io=options())
    stage.submit("cpu", count=60)
    stage.until(lambda: len(stage.assigned("cpu")) == 8, "four for each processor at first")
    observing = stage.client.observing
    stage.client.run(observing.learned(stage.pools["io"], busy_cpu=0.01, memory=2**20))
    stage.client.run(observing.learned(stage.pools["cpu"], busy_cpu=1.0, memory=2**20))
    stage.submit("io", count=60)
    stage.until(lambda: len(stage.assigned("io")) >= 1, "the first one waits for no processor")
    assert len(stage.assigned("cpu")) == 8

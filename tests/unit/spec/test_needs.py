"""What containers need and boxes offer, by tables."""

from __future__ import annotations

import pytest

from qmodal.exception import InvalidError
from qmodal.spec.needs.gpus import Gpu, GpuNeed, expand, kind_of
from qmodal.spec.needs.needs import MEBIBYTE, Needs
from qmodal.spec.needs.offer import Offer, impossible
from qmodal.spec.options import validated_options

A100 = Gpu(uuid="GPU-1", kind="A100-80GB", memory=81920)
L4 = Gpu(uuid="GPU-2", kind="L4-24GB", memory=23034)


@pytest.mark.parametrize(
    ("text", "kind", "count", "shares", "shown"),
    [
        ("A100", "A100", 1, 1, "A100"),
        ("a100-80gb:2", "A100-80GB", 2, 1, "A100-80GB:2"),
        ("any", "ANY", 1, 1, "any"),
        ("H100!:8", "H100", 8, 1, "H100:8"),
        ("L4:0.5", "L4", 1, 2, "L4:1/2"),
        ("L4:0.33", "L4", 1, 3, "L4:1/3"),
        ("any:1/4", "ANY", 1, 4, "any:1/4"),
    ],
)
def test_a_gpu_is_asked_for_by_kind_count_and_share(
    text: str, kind: str, count: int, shares: int, shown: str
) -> None:
    need = GpuNeed.parse(text)
    assert (need.kind, need.count, need.shares) == (kind, count, shares)
    assert str(need) == shown


@pytest.mark.parametrize(
    "text", ["", "A100:0", "A100:1.5", "A100:0.01", "A100:x", "A 100", ":2", "A100:99"]
)
def test_a_gpu_that_cannot_be_read_is_refused_where_it_is_declared(text: str) -> None:
    with pytest.raises(InvalidError, match=r'must look like "A100"'):
        GpuNeed.parse(text)


@pytest.mark.parametrize(
    ("name", "memory", "kind"),
    [
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100-80GB"),
        ("NVIDIA H200", 143771, "H200-140GB"),
        ("Tesla T4", 15360, "T4-15GB"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX-4090-24GB"),
        ("NVIDIA L40S", 46068, "L40S-45GB"),
        ("", 0, "GPU"),
    ],
)
def test_the_name_of_a_driver_becomes_a_kind(name: str, memory: int, kind: str) -> None:
    assert kind_of(name, memory) == kind


def test_a_gpu_travels_as_text_and_what_is_no_gpu_is_none() -> None:
    assert Gpu.parse(A100.text) == A100
    assert [Gpu.parse(text) for text in ("", "a b", "GPU-1 x A100", "a 1 b c")] == [None] * 4


def test_declared_gpus_have_the_same_ids_each_time() -> None:
    first, second = expand("2xA100,1xL4", "box"), expand("2xA100,1xL4", "box")
    assert first == second
    assert [gpu.kind for gpu in first] == ["A100", "A100", "L4"]
    assert len({gpu.uuid for gpu in first}) == 3
    with pytest.raises(InvalidError, match="4xA100"):
        expand("four A100", "box")


def test_options_say_what_a_container_needs() -> None:
    options = validated_options(cpu=(1, 2), memory=512, gpu=["H100", "A100:2"], region="eu")
    needs = options.needs
    assert (needs.cpu, needs.cpu_limit) == (1, 2)
    assert (needs.memory, needs.memory_limit) == (512 * MEBIBYTE, None)
    assert str(needs) == "gpu H100 or A100:2, cpu 1, memory 512 MiB, region eu"
    assert not validated_options().needs.is_declared


@pytest.mark.parametrize(
    ("needs", "lacks"),
    [
        (Needs(), ""),
        (Needs.of(cpu=8), ""),
        (Needs.of(cpu=8.5), "offers 8 CPUs"),
        (Needs.of(memory=2048), "1024 MiB of memory"),
        (Needs.of(gpu="A100"), ""),
        (Needs.of(gpu="A100:2"), "has no GPU A100:2"),
        (Needs.of(gpu=("H100", "any")), ""),
        (Needs.of(gpu="any:2"), ""),
        (Needs.of(region="a"), ""),
        (Needs.of(region=("x", "eu")), ""),
        (Needs.of(region="zone=b"), "no label zone=b"),
    ],
)
def test_a_box_says_what_it_lacks(needs: Needs, lacks: str) -> None:
    box = Offer(cpus=8, memory=1024 * MEBIBYTE, gpus=(A100, L4), labels=("zone=a", "eu"))
    found = box.lacks(needs)
    assert lacks in found
    assert bool(found) == bool(lacks)
    assert impossible(needs, [box]) == bool(lacks)
    assert not impossible(needs, [])


def test_a_box_without_labels_takes_functions_of_all_regions() -> None:
    assert not Offer(cpus=1, memory=MEBIBYTE).lacks(Needs.of(region="us-east"))

"""A CUDA program on a real GPU: the one that it sees is the one that was leased, and its memory is free at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmodal_workers.devices.nvml import Nvml
from tests.support.commands import qmodal
from tests.support.stacks import short_folder
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).with_name("cuda.py")
# What the driver may keep of a GPU after the first program on it.
KEPT_MIB = 64


@pytest.fixture
def driver() -> Nvml:
    """The driver of a machine that has a GPU; skips the test elsewhere."""
    found, why_none = Nvml.open()
    if found is None or not found.look().gpus:
        pytest.skip(f"no GPU here: {why_none or 'the driver lists none'}")
    return found


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with short_folder() as made:
        yield made


def test_a_cuda_program_runs_on_the_gpu_that_was_leased_and_leaves_nothing_there(
    driver: Nvml, folder: Path
) -> None:
    before = {uuid: figures.used for uuid, figures in driver.look().gpus.items()}
    run = qmodal("run", PROGRAM, cwd=folder, QMODAL_GPU_LOCKS=str(folder / "locks"))
    print(run.stdout, run.stderr)
    assert run.returncode == 0, run.stderr
    seen = json.loads(next(line for line in run.stdout.splitlines() if line.startswith("{")))
    first, second = seen["first"], seen["second"]
    assert first["numbers"] == [42, 42]
    assert second["numbers"] == [43, 43]  # in the same container, on the same GPU
    assert first["devices"] == 1
    assert first["leased"] in before
    assert first["leased"].endswith(first["uuid"])
    assert seen["without"] == 0

    def is_free() -> bool:
        now = driver.look().gpus
        return all(now[uuid].used <= used + KEPT_MIB for uuid, used in before.items())

    wait_until(is_free, what="its memory is free again")

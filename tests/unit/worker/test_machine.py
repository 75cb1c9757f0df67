"""What a machine has and a worker offers of it: control groups of both versions, options, and labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmodal.exception import ConfigurationError, InvalidError
from qmodal.spec.needs.labels import check_label, region_of
from qmodal.spec.needs.sizes import parse_size
from qmodal_workers.agent.box import machine as machines
from qmodal_workers.agent.box.machine import Machine, free_memory, machine
from qmodal_workers.agent.box.offered import offered

GIBIBYTE = 2**30
HAVE = Machine(cpus=4.0, memory=8 * GIBIBYTE)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in the place of that of control groups, and a machine with 16 GiB, 10 of them free."""
    monkeypatch.setattr(machines, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machines, "MEMORY_INFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text(f"MemTotal: {16 * 2**20} kB\nMemAvailable: {10 * 2**20} kB\n")
    (tmp_path / "cgroup").mkdir()
    machines._groups.cache_clear()
    yield tmp_path / "cgroup"
    machines._groups.cache_clear()


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def own(monkeypatch: pytest.MonkeyPatch, **folders: Path | None) -> None:
    """What this process's control groups are: `two`, or by controllers of version 1."""
    monkeypatch.setattr(machines, "own_group", lambda name="": folders.get(name or "two"))


def test_without_control_groups_there_is_what_the_machine_has(groups: Path) -> None:
    assert machine() == Machine(cpus=float(len(os.sched_getaffinity(0))), memory=16 * GIBIBYTE)
    assert free_memory() == 10 * GIBIBYTE


def test_a_control_group_limits_what_there_is_and_what_is_free(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, outer = groups / "system" / "worker.service", groups / "system"
    own(monkeypatch, two=inner)
    write(outer, memory__max=4 * GIBIBYTE, memory__current=3 * GIBIBYTE, cpu__max="max 100000")
    write(outer, memory__stat=f"anon 5\ninactive_file {GIBIBYTE}")
    write(inner, memory__max="max", memory__current=GIBIBYTE, cpu__max="50000 100000")
    assert machine() == Machine(cpus=0.5, memory=4 * GIBIBYTE)
    assert machine().processors == 1
    assert free_memory() == 2 * GIBIBYTE, "the cache of files gives way"


def test_a_control_group_of_version_1_does_so_too(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, cpu = groups / "memory" / "docker", groups / "cpu" / "docker"
    own(monkeypatch, memory=memory, cpu=cpu)
    write(memory, memory__limit_in_bytes=2 * GIBIBYTE, memory__usage_in_bytes=GIBIBYTE)
    write(memory, memory__stat="total_inactive_file 1024")
    write(groups / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=0)
    write(cpu, cpu__cfs_quota_us=25_000, cpu__cfs_period_us=100_000)
    write(groups / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)
    assert machine() == Machine(cpus=0.25, memory=2 * GIBIBYTE)
    assert free_memory() == GIBIBYTE + 1024


def test_this_machine_has_something() -> None:
    assert machine().cpus > 0
    assert 0 < free_memory() <= machine().memory


def test_all_is_offered_unless_less_is_said() -> None:
    everything = offered(HAVE)
    assert (everything.cpus, everything.memory) == (4.0, 8 * GIBIBYTE)
    assert (everything.max_containers, everything.is_measured) == (64, True)
    less = offered(HAVE, cpus=0.5, memory=GIBIBYTE)
    assert (less.cpus, less.memory, less.max_containers) == (0.5, GIBIBYTE, 8)
    counted = offered(HAVE, max_containers=3)
    assert (counted.max_containers, counted.is_measured) == (3, False)
    assert offered(HAVE, cpus=8).cpus == 8, "they share the processors that there are"


def test_memory_that_is_not_there_cannot_be_offered() -> None:
    with pytest.raises(ConfigurationError, match=r"offers 9\.0 GiB.*may use 8\.0 GiB"):
        offered(HAVE, memory=9 * GIBIBYTE)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("512", 512 * 2**20),
        ("24GiB", 24 * GIBIBYTE),
        ("1.5 gib", 3 * GIBIBYTE // 2),
        ("2g", 2 * GIBIBYTE),
        ("2GB", 2_000_000_000),
        ("100k", 100 * 1024),
    ],
)
def test_memory_is_written_as_people_do(text: str, found: int) -> None:
    assert parse_size(text) == found


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "5 apples", "3b", "1e9", "9999999999T"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="memory"):
        parse_size(text)


def test_labels_are_words_and_pairs() -> None:
    for label in ("fast", "zone=a", "region=eu-west-1", "a100", "topology.io/rack=r1"):
        assert check_label(label) == label
    for odd in ("", "=", "zone=", "a b", "a,b", "a=b=c", "x" * 65, "-a", "ä"):
        with pytest.raises(InvalidError, match="label"):
            check_label(odd)


def test_the_region_is_the_label_of_that_name() -> None:
    assert region_of(("fast", "zone=a", "region=eu")) == "eu"
    assert region_of(("fast", "zone=a")) == ""

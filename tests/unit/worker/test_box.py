"""What holds containers within a box: memory for one more, what was learned of pools, and control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qmodal.store.fleet import ContainerReport
from qmodal_workers.agent.box import cgroups
from qmodal_workers.agent.box.cgroups import Cgroups
from qmodal_workers.agent.box.memory_room import USUAL_BYTES, MemoryRoom
from qmodal_workers.agent.box.offered import Offered
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.agent.measuring.usage import FIRST_SECONDS, LATER_SECONDS, PoolUse
from qmodal_workers.ipc import process_usage
from qmodal_workers.ipc.child_processes import OomKills

MEBIBYTE = 2**20
GIBIBYTE = 2**30


class Room:
    """Memory of a box with containers; `free` and what each has `taken` are as the test says."""

    def __init__(self, offered: int, *, is_measured: bool = True) -> None:
        self.table = ContainerTable()
        self.measured: dict[str, int] = {}
        self.free, self.taken = 100 * GIBIBYTE, 0
        self.asked = 0
        about = Offered(
            cpus=2.0, memory=offered, max_containers=32, is_measured=is_measured, processors=2
        )
        self.room = MemoryRoom(
            self.table,
            self.measured.get,
            about,
            free=lambda: self.free,
            taken=self._taken,
        )

    def _taken(self, pid: int) -> int:
        self.asked += 1
        return self.taken

    def add(self, pool: str, *, expected: int = 0, inherited: int = 0) -> None:
        """A container that has run for a while."""
        number = len(self.table.living()) + 1
        report = ContainerReport(
            container=f"ta-x-{number}",
            pool=pool,
            app="ap",
            function="f",
            label="f",
            number=1,
            state="ready",
            since=0,
            pid=number,
        )
        self.table.add(
            Container(
                report=report,
                assigned_at=0.0,
                expected_memory=expected,
                inherited_memory=inherited,
            )
        )

    def fill(self, pool: str) -> int:
        """Start as many of the pool as there is room for, at most 64; how many there are then."""
        while self.room.has_room(pool) and len(self.table.living()) < 64:
            self.add(pool)
        return len(self.table.living())


def test_the_first_container_of_a_box_always_starts() -> None:
    room = Room(GIBIBYTE)
    room.measured["huge"], room.free = 5 * GIBIBYTE, 0
    assert room.room.has_room("huge")
    room.add("huge")
    assert not room.room.has_room("huge")


def test_no_more_start_than_fit_what_is_offered() -> None:
    room = Room(GIBIBYTE)
    room.measured["a"] = 300 * MEBIBYTE
    assert room.fill("a") == 3
    assert room.room.has_room("little"), "of which nobody knows anything"
    assert room.asked == 0, "nothing had to be looked up"


def test_of_what_nobody_knows_a_little_is_expected() -> None:
    assert Room(10 * USUAL_BYTES).fill("a") == 10


def test_who_says_how_many_run_is_bound_by_what_is_free_only() -> None:
    room = Room(GIBIBYTE, is_measured=False)
    room.measured["a"] = 300 * MEBIBYTE
    assert room.fill("a") == 64
    room.free = 2 * GIBIBYTE
    room.room._looked = float("-inf")
    assert not room.room.has_room("a")


def test_what_others_have_measured_or_a_function_asks_for_is_expected() -> None:
    room = Room(GIBIBYTE)
    room.add("a", expected=600 * MEBIBYTE)
    assert not room.room.has_room("a")
    room.measured["a"] = 100 * MEBIBYTE
    assert room.room.has_room("a"), "what was measured here goes before that"


def test_what_runs_will_still_take_is_kept_free() -> None:
    room = Room(8 * GIBIBYTE)
    room.measured["a"] = GIBIBYTE
    room.free, room.taken = 4 * GIBIBYTE, 0
    room.add("a")
    room.add("a")
    assert room.room.has_room("a"), "two that will take a gibibyte each, and the third"
    room.add("a")
    assert not room.room.has_room("a"), "a fourth would leave no reserve"
    room.taken = GIBIBYTE  # they have taken it now, and what is free is so without it
    room.room._looked = float("-inf")
    assert room.room.has_room("a")


def test_what_is_shared_with_a_template_is_not_taken() -> None:
    room = Room(8 * GIBIBYTE)
    room.measured["a"], room.taken = GIBIBYTE, 3 * GIBIBYTE
    room.free = 3 * GIBIBYTE
    for _ in range(2):
        room.add("a", inherited=3 * GIBIBYTE)
    assert not room.room.has_room("a"), "both have taken nothing of their gibibyte yet"


def test_cpus_follow_their_samples_and_memory_its_peak() -> None:
    use = PoolUse()
    use.learn_cpu(1.0)
    assert use.news == {"busy_cpu": 1.0}
    use.wrote(use.news, 0.0)
    use.learn_cpu(0.8)
    assert use.cpu == pytest.approx(0.9)
    assert use.news == {}, "a change by a tenth is not worth a write"
    use.learn_cpu(0.1)
    assert use.news == {"busy_cpu": 0.5}
    use.learn_memory(500 * MEBIBYTE)
    use.learn_memory(100 * MEBIBYTE)
    assert use.news["memory"] == 460 * MEBIBYTE, "it may take that again"


def test_samples_of_a_pool_come_more_and_more_seldom() -> None:
    use, waits = PoolUse(), []
    for _ in range(9):
        use.learn_cpu(1.0)
        use.next_look(0.0, was_busy=True)
        waits.append(use.due)
    assert waits[:3] == [FIRST_SECONDS] * 3
    assert waits == sorted(waits)
    assert waits[-1] == LATER_SECONDS
    quiet = PoolUse()
    for _ in range(9):
        quiet.next_look(0.0, was_busy=False)
    assert quiet.due == LATER_SECONDS, "one that does nothing is hardly looked at"
    quiet.next_look(0.0, was_busy=True)
    assert quiet.due == FIRST_SECONDS


@pytest.mark.skipif(not process_usage.IS_KNOWN, reason="Linux tells it")
def test_what_this_process_takes_is_known() -> None:
    own = os.getpid()
    held = bytearray(b"x" * (32 * MEBIBYTE))
    resident = process_usage.resident(own)
    assert len(held) < process_usage.private(own)
    assert len(held) < process_usage.proportional([own])
    assert len(held) < process_usage.anonymous([own])
    assert len(held) < resident.now <= resident.peak
    assert process_usage.cpu_seconds([own]) > 0
    gone = 2**22 + 1
    assert process_usage.resident(gone) == (0, 0)
    assert process_usage.private(gone) == process_usage.anonymous([gone]) == 0


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like this process's own control group, which was given to it."""
    folder = tmp_path / "worker.service"
    folder.mkdir()
    for name, content in {
        "cgroup.procs": os.getpid(),
        "cgroup.controllers": "cpuset cpu io memory pids",
        "cgroup.subtree_control": "",
    }.items():
        (folder / name).write_text(f"{content}\n")
    monkeypatch.setattr(cgroups, "own_group", lambda: folder)
    monkeypatch.setattr(cgroups, "_is_ours", lambda _: True)
    return folder


def test_a_worker_takes_the_control_group_that_was_given_to_it(group: Path) -> None:
    claimed = Cgroups.claim()
    assert claimed is not None
    assert (group / "cgroup.subtree_control").read_text() == "+memory +cpu"
    assert (group / "qmodal-worker" / "cgroup.procs").read_text() == str(os.getpid())
    assert claimed.join("ta-x-1", 77, memory=GIBIBYTE, cpu=1.5)
    made = group / "ta-x-1"
    assert (made / "memory.max").read_text() == str(GIBIBYTE)
    assert (made / "memory.oom.group").read_text() == "1"
    assert (made / "cpu.max").read_text() == "150000 100000"
    assert (made / "cgroup.procs").read_text() == "77"
    (made / "memory.events").write_text("low 0\nmax 12\noom 1\noom_kill 1\n")
    assert claimed.leave("ta-x-1"), "the kernel has ended it"
    assert not claimed.leave("ta-x-2"), "which never had one"


def test_a_group_with_processes_of_others_is_left_alone(group: Path) -> None:
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n{os.getppid()}\n")
    assert Cgroups.claim() is None
    assert not (group / "qmodal-worker").exists()


def test_without_the_memory_controller_the_worker_watches_itself(group: Path) -> None:
    (group / "cgroup.controllers").write_text("cpu pids\n")
    assert Cgroups.claim() is None
    assert not (group / "qmodal-worker").exists()


def test_a_group_that_is_not_ours_is_left_alone(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert not cgroups._is_ours(group / "none")
    if os.geteuid() == 0:
        assert not cgroups._is_ours(group), "root may write everywhere, and nobody has delegated it"
    try:
        os.setxattr(group, "user.delegate", b"1")  # as systemd does
    except OSError:
        pytest.skip("this file system has no attributes")
    assert cgroups._is_ours(group)


def test_what_the_kernel_has_ended_for_want_of_memory_is_counted(tmp_path: Path) -> None:
    missing, own = tmp_path / "missing", tmp_path / "memory.events"
    own.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    kills = OomKills([missing, own])
    assert not kills.have_grown()
    own.write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert kills.have_grown()
    assert not kills.have_grown(), "each is told once"
    assert not OomKills([missing]).have_grown()

"""Classes in containers: hooks in order, memory shared by `snap=True`, what cannot be forked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.config import Settings
from qmodal.exception import ExecutionError
from qmodal.runner.run import ensure_server
from qmodal.source.loader import load_file
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "boxes" / "snapshots.py"
SIZE_KIB = 50 * 1024


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings.from_environ({"QMODAL_HOME": str(home)})
    module: Any = load_file(PROGRAM)
    app: qmodal.App = module.app
    with ensure_server(settings), app.run():
        yield module


def test_snapshot_hooks_run_once_and_their_memory_is_shared(user: Any, tmp_path: Path) -> None:
    calls = [user.Large().look.spawn(str(tmp_path), 3) for _ in range(3)]
    seen = [call.get(timeout=60) for call in calls]
    assert len({each["pid"] for each in seen}) == 3
    assert len({each["loaded_by"] for each in seen}) == 1
    assert all(each["entered_by"] == each["pid"] for each in seen)
    assert all(each["pid"] != each["loaded_by"] for each in seen)
    # Each can see all of the 50 MiB; the proportional share of one is a fraction of that.
    for each in seen:
        assert each["rss"] > SIZE_KIB
        assert each["private"] < SIZE_KIB / 2
        assert each["pss"] < SIZE_KIB


def test_hooks_run_in_order_over_inheritance_and_may_be_async(user: Any) -> None:
    expected = ["base snap", "async snap", "own snap", "base enter", "async enter", "own enter"]
    assert user.Derived().hooks.remote() == expected


def test_exit_hooks_run_in_order_when_the_container_drains(user: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    derived = user.Derived()
    pid = derived.report_to.remote(str(log))
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="it drains", seconds=30)
    assert log.read_text().splitlines() == ["base exit", "async exit"]


def test_an_instance_that_cannot_be_forked_is_built_in_each_container(user: Any) -> None:
    first = user.Threaded().look.remote()
    assert first["loaded_by"] == first["pid"]


def test_different_parameters_have_different_snapshots(user: Any) -> None:
    one, two = (user.Sized(size=size).look.remote() for size in (1, 2))
    assert (one["length"], two["length"]) == (1, 2)
    assert one["loaded_by"] != two["loaded_by"]


def test_a_method_calls_its_sibling_in_the_same_pool(user: Any) -> None:
    assert user.Sized(size=3).through.remote() == 3


def test_a_failing_snapshot_hook_is_told_to_the_caller(user: Any) -> None:
    with pytest.raises(ExecutionError, match="no model today"):
        user.Failing().look.remote()


def test_a_snapshot_hook_that_dies_does_not_hang(user: Any) -> None:
    with pytest.raises(ExecutionError, match="status 3"):
        user.Dying().look.remote()

"""User code that forks: a child that comes back from it ends, and its parent goes on alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import desk
from tests.support.stacks import running_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "forking.py"
# How a child comes back, and the status that Python would have ended with.
ENDS = {"returns": 0, "raises": 1, "exits": 3, "interrupts": 1}
UNWINDING = """
import os, sys, qmodal
app = qmodal.App("unwinding")

@app.function()
def square(x: int) -> int:
    return x * x

if __name__ == "__main__":
    with app.run():
        child = os.fork()
        if child == 0:
            sys.exit(3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, square.remote(3))
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running_program(PROGRAM, tmp_path_factory) as module:
        yield module


@pytest.mark.parametrize("name", ["plain", "coroutine"])
def test_a_child_that_comes_back_settles_nothing(user: Any, name: str) -> None:
    function = getattr(user, name)
    assert [function.spawn(how).get(timeout=20) for how in ENDS] == list(ENDS.values())
    assert list(function.map(ENDS)) == list(ENDS.values())


@pytest.mark.parametrize("name", ["items", "items_aio"])
@pytest.mark.parametrize("how", ENDS)
def test_a_child_of_a_generator_adds_no_item(user: Any, name: str, how: str) -> None:
    assert list(getattr(user, name).remote_gen(how)) == ["first", ENDS[how], "last"]


@pytest.mark.parametrize("how", ENDS)
def test_a_child_of_a_hook_or_an_import_does_not_serve(user: Any, tmp_path: Path, how: str) -> None:
    left = tmp_path / "left"
    assert user.Hooks(how=how, left=str(left)).status.spawn().get(timeout=20) == (0, ENDS[how])
    wait_until(lambda: left.exists() and left.read_text() == str(ENDS[how]), what="it has left")


def test_a_child_of_a_hook_whose_memory_is_shared_does_not_serve(user: Any) -> None:
    assert user.Warm().status.spawn().get(timeout=20) == 0


def test_processes_of_multiprocessing_work(user: Any) -> None:
    assert user.pool_of_processes.spawn().get(timeout=20) == [3, 2, 1]


def test_a_child_has_connections_of_its_own(user: Any) -> None:
    assert user.calls_of_both.spawn().get(timeout=20) == ["[4, 9] 0", 16, 25]


def test_a_child_is_interrupted_as_any_program(user: Any) -> None:
    assert user.handlers_of_a_child.spawn().get(timeout=20) == "[True, True] 0"


def test_a_child_that_leaves_the_block_of_a_run_does_not_end_the_app() -> None:
    with desk() as here:
        (here.base / "program.py").write_text(UNWINDING)
        assert here.run("python", "program.py") == "3 9\n"

"""Programs in the cells of a real kernel: calls, output, bars, errors, changed code and interrupted cells."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.output.notebook import Notebook, notebook
from tests.support.stacks import family, wait_until_gone
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "notebooks.md"
START = """
import os, time, threading
from contextlib import ExitStack
import qmodal

app = mine = qmodal.App("cells")

@app.function(max_containers=2)
def f(x):
    print("in f", x)
    return x

@app.function()
def counted(n):
    yield from range(n)

@app.function(max_containers=2)
def nap(x, path=None, seconds=0.1):
    if path:
        open(f"{path}/{x}", "w").close()
    time.sleep(seconds)
    return x

@app.function(secrets=[qmodal.Secret.from_dict({"TOKEN": "a-secret-value"})])
def invert(x):
    y = 1
    return y / x

@app.cls()
class Loaded:
    @qmodal.enter()
    def load(self):
        self.loaded = time.time()

    @qmodal.method()
    def when(self):
        return self.loaded

session = ExitStack()
session.enter_context(qmodal.enable_output())
session.enter_context(app.run());
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """A notebook in which an app runs; tests come in any order, so each defines what it changes."""
    with notebook(tmp_path_factory.mktemp("home")) as made:
        made.check(START)
        yield made


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("f.remote(3)", "3"),
        ("list(f.map(range(3)))", "[0, 1, 2]"),
        ("list(f.map(iter(range(3))))", "[0, 1, 2]"),
        ("[x for x in f.starmap([(1,), (2,)])]", "[1, 2]"),
        ("f.for_each(range(3))", None),
        ("f.spawn(4).get()", "4"),
        ("qmodal.FunctionCall.gather(f.spawn(1), f.spawn(2))", "[1, 2]"),
        ("list(f.spawn_map(range(3)).iter())", "[0, 1, 2]"),
        ("list(counted.remote_gen(3))", "[0, 1, 2]"),
        ("await f.remote.aio(5)", "5"),
        ("await f.remote.aio(5) + f.remote(6)", "11"),
        ("[x async for x in f.map.aio(range(3))]", "[0, 1, 2]"),
    ],
)
def test_plain_and_asyncio_calls_work_in_a_cell(
    cells: Notebook, source: str, result: str | None
) -> None:
    assert cells.check(source).result == result


def test_a_coroutine_of_the_user_is_told_not_to_block(cells: Notebook) -> None:
    shown = cells.run("async def careless(): return f.remote(1)\nawait careless()")
    assert "await its `.aio` form" in shown.stream("stderr")
    shown = cells.run("async def careless(): return list(f.map([1]))\nawait careless()")
    assert "from an async function" in shown.error


def test_results_that_nobody_iterates_say_so(cells: Notebook) -> None:
    assert "nothing runs before" in cells.check("results = f.map([1])\nresults").result
    cells.check("list(results)")


def test_output_appears_below_the_cell_that_calls(cells: Notebook) -> None:
    assert "in f 4711" in cells.check("f.remote(4711)").stream("stdout")


def test_an_error_shows_the_lines_of_cells_and_no_frames_of_ours(cells: Notebook) -> None:
    below = cells.run("def of_mine():\n    return invert.remote(0)\nof_mine()")
    shown = below.error
    assert "----> 2     return invert.remote(0)" in re.sub(r"\n +1 def.*\n", "\n", shown)
    lines = r'File "Cell In\[\d+\]", line \d+, in invert\n +return y / x\n'
    # As a part of the error, unless its container had printed it before.
    assert re.search(lines, shown) or "shown above" in shown
    assert re.search(lines, shown + below.stream("stdout"))
    assert "qmodal/" not in shown
    for refused in ("f.map()", "app.function(timeout=-1)", "qmodal.Queue.from_name('')"):
        shown = cells.run(refused).error
        assert refused in shown
        assert "qmodal/" not in shown


def test_a_map_has_a_bar_with_a_total_that_stays_as_it_was_at_its_end(cells: Notebook) -> None:
    shown = cells.check("sum(nap.map(range(12)))").display
    assert '<progress value="12" max="12"' in shown
    assert re.search(r"12/12, [\d.]+/s, 0:0\d", shown)


def test_what_has_changed_is_published_and_what_has_not_keeps_its_containers(
    cells: Notebook,
) -> None:
    loaded = cells.check("Loaded().when.remote()").result
    cells.check("@app.function()\ndef sized(x): return scaled(x)")
    cells.check("scale = 1\ndef scaled(x): return x * scale")
    assert cells.check("sized.remote(3)").result == "3"
    assert cells.check("scale = 10\nsized.remote(3)").result == "30"
    assert cells.check("def scaled(x): return -x\nsized.remote(3)").result == "-3"
    cells.check("@app.function()\ndef sized(x): return 'new', x")
    assert cells.check("sized.remote(3)").result == "('new', 3)"
    caller = "@app.function()\ndef caller(x): return sized.remote(x)\ncaller.remote(1)"
    assert cells.check(caller).result == "('new', 1)"
    assert cells.check("Loaded().when.remote()").result == loaded


def test_settings_stay_when_something_else_changes_and_what_was_replaced_is_not_kept_warm(
    cells: Notebook,
) -> None:
    cells.check("nap.autoscaler.update(buffer_containers=1)")
    cells.check("@app.function(min_containers=1)\ndef warm(): return os.getpid()")
    cells.check("first = warm.hydrate()._known[1].pool")
    cells.check("@app.function(min_containers=1)\ndef warm(): return -os.getpid()")
    assert int(cells.check("warm.remote()").result) < 0
    assert cells.check("nap.autoscaler.settings().buffer_containers").result == "1"
    cells.check("from qmodal.client.client import current")
    minimum = "current().run(current().apps.overrides(app.app_id))[first]['min_containers']"
    assert cells.check(minimum).result == "0"


def test_calls_that_were_made_before_a_change_end_with_the_code_of_then(
    cells: Notebook, tmp_path: Path
) -> None:
    cells.check("@app.function()\ndef old(seconds): time.sleep(seconds); return 'old'")
    cells.check("call = old.spawn(1)")
    cells.check("@app.function()\ndef old(seconds): return 'new'")
    assert cells.check("old.remote(0), call.get()").result == "('new', 'old')"


def test_what_cannot_be_published_says_why(cells: Notebook) -> None:
    shown = cells.run("lock = threading.Lock()\n@app.function()\ndef held(): return lock.locked()")
    assert "held cannot be serialized" in shown.stream("stderr")
    shown = cells.run("nap.remote(1)")
    assert "held cannot be serialized" in shown.error
    cells.check("@app.function()\ndef held(): return 1")
    assert cells.check("held.remote()").result == "1"


def interrupted(cells: Notebook, source: str, folder: Path) -> str:
    """The error of a cell that is interrupted once a container has begun with something in that folder."""

    def interrupt() -> None:
        wait_until(lambda: any(folder.iterdir()), what="a container at work", seconds=60)
        os.kill(cells.pid, signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    shown = cells.run(source)
    waiting.join()
    return shown.error


@pytest.mark.parametrize(
    "call",
    [
        "nap.remote(0, {path!r}, 60)",
        "list(nap.map(range(20), kwargs=dict(path={path!r}, seconds=60)))",
        "nap.for_each(iter(range(20)), kwargs=dict(path={path!r}, seconds=60))",
        "async for x in nap.map.aio(range(20), kwargs=dict(path={path!r}, seconds=60)): pass",
    ],
)
def test_an_interrupted_cell_ends_what_it_waits_for(
    cells: Notebook, tmp_path: Path, call: str
) -> None:
    error = interrupted(cells, call.format(path=str(tmp_path)), tmp_path)
    assert re.search("KeyboardInterrupt|CancelledError", error)
    assert "qmodal/" not in error

    def is_over() -> bool:
        shown = cells.check("now = nap.get_current_stats(); now.backlog + now.num_running_inputs")
        return bool(shown.result == "0")

    wait_until(is_over, what="the end of the map's inputs", pause=0.1)


def test_an_interrupted_block_of_an_app_is_no_success(cells: Notebook, tmp_path: Path) -> None:
    cells.check("other = qmodal.App('other')\nother.function()(nap.local);")
    source = f"with other.run(): other.registered_functions['nap'].remote(0, {str(tmp_path)!r}, 60)"
    assert "KeyboardInterrupt" in interrupted(cells, source, tmp_path)


def test_what_is_defined_after_a_deploy_says_that_it_is_not_a_part_of_it(cells: Notebook) -> None:
    cells.check(
        "shop = qmodal.App('shop')\n@shop.function()\ndef price(): return 1\nshop.deploy();"
    )
    shown = cells.run("@shop.function()\ndef price(): return 2")
    assert "price was defined after 'shop' had been deployed" in shown.stream("stderr")
    cells.check("shop.stop()")


def test_the_cells_of_the_page_do_what_it_says(cells: Notebook) -> None:
    said = 0
    for source in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        shown = cells.check(source)
        for result in re.findall(r"remote\(3\)  # (\d+)", source):
            assert shown.result == result
            said += 1
    assert said
    cells.check("session.close()\napp = mine")


def test_a_kernel_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    with notebook(tmp_path) as made:
        made.check("import qmodal\napp = qmodal.App()\napp.run().__enter__();")
        made.check("@app.function()\ndef f(): return 1\nf.remote()")
        left = family(made.pid, 5)
        os.kill(made.pid, signal.SIGKILL)
        wait_until_gone(left, seconds=20)

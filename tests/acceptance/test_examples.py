"""Every example, run as the README says, on a machine with no Redis and no settings."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.installed import QMODAL, ROOT, Desk, desk
from tests.support.waiting import wait_until

EXAMPLES = ROOT / "examples"
# What each prints, whatever the machine: its options, then parts of its output.
OUTPUTS: dict[str, tuple[list[str], list[str]]] = {
    "quickstart.py": (
        ["--count", "100"],
        ["7 * 7 = 49", "12 * 12 = 144", "the first 100 squares add up to 328350"],
    ),
    "translator.py": (
        ["--text", "sos now"],
        [
            "has loaded morse",
            "... --- ... / -. --- .--",
            "Sierra Oscar Sierra / November Oscar Whiskey",
            "its input 2",
        ],
    ),
    "legacy_constructor.py": (
        [],
        ["100.00 m ", "328.08 ft ", "109.36 yd ", "3 sets of arguments, 3 containers"],
    ),
    "async_calls.py": (
        [],
        ["many calls at once", "'calls': 5", "and one to collect later"],
    ),
    "crawler.py": ([], ["127 pages of 0.1 s each in", "by one container"]),
    "batched_inference.py": ([], ["a great day scores 2", "64 calls, few passes"]),
    "stdlib_report.py": (
        ["--below", "email"],
        ["files ", "most used names", "with every report checked here"],
    ),
    "poller.py": ([], ["handing on order 2", "3 orders, then 3", "a report of 2"]),
    "objects.py": (
        [],
        [
            "north has done ['north-0', 'north-1', 'north-2']",
            "the counter is 20",
            "the parts add up to 499500",
        ],
    ),
    "web.py": (
        [],
        [
            "/parameterized-function-app-dev/MyClass.baz",
            "container pool (hedgehog, 7), with input qux=override",
            "container pool (hedgehog, 10), with input qux=default",
            "all there is to say about examples is said here",
            '"cents":750',
            "a page with events",
        ],
    ),
}
# Client, supervisor, server, autoscaler, worker, a template, the next one, and a container.
CTRL_C_PROCESSES = 8


@pytest.fixture
def here() -> Iterator[Desk]:
    with desk() as made:
        yield made


def test_every_example_is_tried_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(OUTPUTS)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", OUTPUTS)
def test_an_example_prints_its_answer_and_leaves_nothing(here: Desk, name: str) -> None:
    options, expected = OUTPUTS[name]
    output = here.run(QMODAL, "run", EXAMPLES / name, *options, seconds=100)
    assert [part for part in expected if part not in output] == [], output
    here.wait_until_empty()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_client_that_ends_in_the_middle_leaves_nothing(
    here: Desk, number: signal.Signals
) -> None:
    with here.start(QMODAL, "run", EXAMPLES / "stdlib_report.py") as process:
        wait_until_busy(here, process)
        os.killpg(process.pid, number)
        process.communicate(timeout=20)
    here.wait_until_empty()


def wait_until_busy(here: Desk, process: subprocess.Popen[str]) -> None:
    """Until the stack of that client has a container; fails with what a client says that ended."""

    def is_busy() -> bool:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        return len(here.processes()) >= CTRL_C_PROCESSES

    wait_until(is_busy, what="a container", seconds=30, pause=0.05)

"""What has been lacking for some time, and the command that is told of it: a real one, run to its end or ended."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

import psutil
import pytest

from qmodal.exception import ConfigurationError
from qmodal.spec.needs.needs import Needs
from qmodal.telemetry.events import EVENT, FIELDS
from qmodal_autoscaler.control.shortage import Lasting, described
from qmodal_autoscaler.control.shortage_command import MOST_BYTES, MOST_IN_LINE, ShortageCommand
from tests.support.stacks import is_gone
from tests.support.waiting import wait_until

PLAIN = Needs()
BIG = Needs.of(gpu=("A100:2", "H100"), cpu=4, memory=(8192, 16384), region="eu")
SHARE = Needs.of(gpu="L4:0.5")


def looks(*wanted: dict[Needs, int]) -> list[dict[Needs, int]]:
    """What has lasted at each of these looks, a second apart, if three seconds are enough."""
    lasting = Lasting(3)
    return [lasting.look(each, now) for now, each in enumerate(wanted)]


def test_what_is_lacking_counts_once_it_has_for_all_of_the_time() -> None:
    assert looks(*[{PLAIN: 2}] * 5) == [{}, {}, {}, {PLAIN: 2}, {PLAIN: 2}]


def test_of_each_kind_the_least_counts() -> None:
    wanted = [{PLAIN: 9, BIG: 1}, {PLAIN: 5, BIG: 1}, {PLAIN: 4}, {PLAIN: 7, BIG: 3}]
    assert looks(*wanted)[-1] == {PLAIN: 4}
    assert looks(*wanted, *[{PLAIN: 8, BIG: 2}] * 3)[-1] == {PLAIN: 7, BIG: 2}


def test_a_moment_in_which_nothing_is_lacking_begins_it_anew() -> None:
    assert looks(*[{PLAIN: 1}] * 3, {}, *[{PLAIN: 1}] * 3) == [{}] * 7


def test_looks_that_come_late_still_count() -> None:
    lasting = Lasting(3)
    assert [lasting.look({PLAIN: 1}, now) for now in (0.0, 20.0)] == [{}, {PLAIN: 1}]


def test_a_command_is_told_what_each_container_needs_and_how_much_that_is() -> None:
    told, variables = described({SHARE: 3, BIG: 1, PLAIN: 7}, 2)
    nothing: dict[str, object] = {"gpu": [], "cpu": None, "memory": None, "region": []}
    assert json.loads(told) == {
        "boxes": 2,
        "wanted": [
            {**nothing, "containers": 7},
            {**nothing, "containers": 3, "gpu": ["L4:1/2"]},
            {
                "containers": 1,
                "gpu": ["A100:2", "H100"],
                "cpu": 4,
                "memory": 8192,
                "region": ["eu"],
            },
        ],
    }
    # Two A100s, and three halves of an L4.
    assert variables == {"QMODAL_BOXES": "2", "QMODAL_WANTED": "11", "QMODAL_WANTED_GPUS": "4"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no program ''"),
        ("there-is-none --more", "no program 'there-is-none'"),
        ("sh -c 'echo", "No closing quotation"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused_at_the_start(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ShortageCommand.parse(text, 60)


def run(caplog: pytest.LogCaptureFixture, code: str, *argv: str | Path) -> list[tuple[str, str]]:
    """The events of a run of this Python program: their names, and what they say beside the program."""
    caplog.set_level(logging.INFO, logger="qmodal.events")
    command = ShortageCommand([sys.executable, "-c", code, *map(str, argv)])
    asyncio.run(command.run(*described({PLAIN: 3}, 1)))
    said = []
    for record in caplog.records:
        fields = getattr(record, FIELDS)
        said.append((getattr(record, EVENT), fields.get("line", fields.get("reason", ""))))
    return said[1:]


def test_it_reads_json_and_has_variables_and_what_it_prints_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = (
        "import json, os, sys; print(json.load(sys.stdin)['wanted'][0]['containers']);"
        "print(os.environ['QMODAL_WANTED'], '\\t\\x1b[1m', file=sys.stderr)"
    )
    assert run(caplog, code) == [
        ("shortage.output", "3"),
        ("shortage.output", "3 \\t\\x1b[1m"),
        ("shortage.ended", ""),
    ]


def test_no_shell_reads_it() -> None:
    command = ShortageCommand.parse("echo '$HOME' > out; id", 60)
    assert command._argv == ["echo", "$HOME", ">", "out;", "id"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit(3)", "it ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "it was ended by signal 9"),
    ],
)
def test_how_it_fails_is_said(caplog: pytest.LogCaptureFixture, code: str, says: str) -> None:
    assert run(caplog, code) == [("shortage.failed", says)]


def test_a_program_that_has_vanished_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="qmodal.events")
    asyncio.run(ShortageCommand(["/nowhere/to/be/found"]).run(b"{}", {}))
    assert "cannot be started" in caplog.records[-1].getMessage()


# Neither it nor what it starts heeds SIGTERM.
STUBBORN = "trap '' TERM; sleep 600 & echo $$ $! > {0}.new; mv {0}.new {0}; wait"


def stubborn(pids: Path, *, limit: float) -> ShortageCommand:
    return ShortageCommand(["sh", "-c", STUBBORN.format(pids)], limit=limit)


def until_gone(pids: Path) -> None:
    found = [int(pid) for pid in pids.read_text().split()]
    wait_until(lambda: all(map(is_gone, found)), what="the end of both")


def test_one_that_runs_too_long_is_ended_with_all_that_it_has_started(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    asyncio.run(stubborn(tmp_path / "pids", limit=2).run(b"{}", {}))
    assert "it was ended, as it still ran after 2 s" in caplog.records[-1].getMessage()
    until_gone(tmp_path / "pids")


def test_one_that_runs_is_ended_when_its_leader_ends(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    async def lead() -> None:
        running = asyncio.create_task(stubborn(pids, limit=600).run(b"{}", {}))
        await asyncio.to_thread(wait_until, pids.exists, what="it runs", seconds=30)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(lead())
    until_gone(pids)


def test_what_it_leaves_in_the_background_is_not_waited_for(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    code = (
        "import subprocess, sys; print('begun', flush=True);"
        "print(subprocess.Popen(['sleep', '60']).pid, file=open(sys.argv[1], 'w'))"
    )
    said = run(caplog, code, tmp_path / "pid")
    assert said == [("shortage.output", "begun"), ("shortage.ended", "")]
    left = psutil.Process(int((tmp_path / "pid").read_text()))
    assert left.is_running()
    os.kill(left.pid, 9)


def test_of_endless_output_the_beginning_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    said = run(caplog, "for _ in range(300_000): print('more')\nprint('x' * 5000)")
    assert said[-1] == ("shortage.ended", "")
    assert {line for name, line in said if name == "shortage.output"} <= {"more", "mor", "mo", "m"}
    assert len(said) < MOST_BYTES
    caplog.clear()
    (_, line), _ = run(caplog, "print('x' * 5000)")
    assert line == "x" * MOST_IN_LINE

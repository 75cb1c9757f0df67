"""`qmodal run`, as a newcomer and as somebody with a server uses it."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from tests.support.commands import PROGRAM as PROGRAM_FILE, environ, qmodal, started
from tests.support.servers import no_process_left
from tests.support.stacks import short_folder
from tests.support.waiting import wait_until

PROGRAM = """
import os
import sys
import time
import qmodal

app = qmodal.App("cli")

@app.function()
def greet(name: str = "you") -> str:
    print("container greets", name)
    print("with a warning", file=sys.stderr)
    print("half a line", end="", flush=True)
    return f"hello {name}"

@app.function()
def fail() -> None:
    raise ValueError("not today")

@app.function()
def sleepy(alarm: str, marker: str) -> None:
    print("asleep", flush=True)
    while not os.path.exists(alarm):
        time.sleep(0.01)
    open(marker, "w").close()

@app.function()
def items():
    yield 1

@app.cls()
class Model:
    size: int = qmodal.parameter()

    @qmodal.method()
    def double(self, by: int = 2) -> str:
        return str(self.size * by)

@app.local_entrypoint()
def main(code: int = 0, wait: bool = False, broken: bool = False) -> None:
    print("local code", code, flush=True)
    if wait:
        time.sleep(60)
    if broken:
        raise KeyError("mine")
    sys.exit(code)

@app.local_entrypoint()
async def both() -> None:
    print(await greet.remote.aio("both"))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path / "program.py"


@pytest.fixture
def box(settings: Settings, tmp_path: Path, client: Client) -> Iterator[None]:
    """An autoscaler and a worker on the session's server."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(started(name, settings=settings, cwd=tmp_path))
            for name in ("autoscaler", "worker")
        ]
        yield
        wait_until(lambda: not client.run(client.observing.active()), what="all pools are gone")
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            child.communicate(timeout=20)


def line(process: Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_newcomer_sees_the_output_of_both_sides_and_nothing_stays(file: Path) -> None:
    with short_folder() as temporary, no_process_left():
        said = qmodal("run", f"{file}::both", cwd=file.parent, TMPDIR=str(temporary))
        assert list(temporary.iterdir()) == []
    assert said.returncode == 0, said.stderr
    # Not line by line: a `print` is two writes, between which the other side may write.
    for text in ("container greets both", "with a warning", "hello both", "half a line"):
        assert text in said.stdout


def test_a_functions_result_is_written_and_not_printed(file: Path) -> None:
    result = file.parent / "result"
    said = qmodal("run", "-q", "-w", result, f"{file}::greet", "--name", "Ada", cwd=file.parent)
    assert said.returncode == 0, said.stderr
    assert result.read_text() == "hello Ada"
    assert "hello Ada" not in said.stdout
    assert said.stderr == ""


def test_it_works_without_standard_streams(file: Path) -> None:
    result = file.parent / "result"
    line = shlex.join([PROGRAM_FILE, "run", "-w", str(result), f"{file}::greet"])
    closed = ["sh", "-c", f"exec {line} <&- >&- 2>&-"]
    environment = environ(QMODAL_HOME=str(file.parent / "home"))
    ended = subprocess.run(closed, cwd=file.parent, env=environment, timeout=50, check=False)
    assert ended.returncode == 0
    assert result.read_text() == "hello you"


def test_a_method_takes_its_options_and_its_classs(file: Path) -> None:
    result = file.parent / "result"
    argv = ("run", "-w", result, f"{file}::Model", "--size", "4", "--by", "3")
    said = qmodal(*argv, cwd=file.parent)
    assert said.returncode == 0, said.stderr
    assert result.read_text() == "12"


def test_a_remote_failure_shows_the_users_frames_of_both_sides(file: Path) -> None:
    said = qmodal("run", f"{file}::fail", cwd=file.parent)
    assert said.returncode == 1
    assert "ValueError: not today" in said.stderr
    assert "Remote traceback" in said.stderr
    assert "in fail" in said.stderr
    assert "qmodal/cli" not in said.stderr


def test_on_one_screen_a_remote_traceback_is_shown_once(file: Path) -> None:
    said = subprocess.run(
        [PROGRAM_FILE, "run", f"{file}::fail"],
        cwd=file.parent,
        env=environ(QMODAL_HOME=str(file.parent / "home")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    ).stdout
    assert said.count("in fail") == 1
    assert said.rstrip().endswith("), shown above")


def test_a_local_failure_shows_the_users_frames_only(file: Path) -> None:
    said = qmodal("run", f"{file}::main", "--broken", cwd=file.parent)
    assert said.returncode == 1
    raised = PROGRAM.splitlines().index('        raise KeyError("mine")') + 1
    frames = [part for part in said.stderr.splitlines() if part.startswith("  File")]
    assert frames == [f'  File "{file}", line {raised}, in main']
    assert said.stderr.endswith("KeyError: 'mine'\n")


def test_a_file_that_cannot_be_imported_says_where(file: Path) -> None:
    file.write_text("import qmodal\n\n1 / 0\n")
    said = qmodal("run", file, cwd=file.parent)
    assert said.returncode == 1
    assert said.stderr.splitlines()[:2] == [
        "Traceback (most recent call last):",
        f'  File "{file}", line 3, in <module>',
    ]


def test_an_app_cannot_be_run_by_its_own_file(file: Path) -> None:
    file.write_text(PROGRAM + "\nwith app.run():\n    pass\n")
    said = qmodal("run", file, cwd=file.parent)
    assert said.returncode == 1
    assert "cannot be called in global scope" in said.stderr


def test_an_entrypoints_own_exit_code_is_kept(file: Path) -> None:
    said = qmodal("run", f"{file}::main", "--code", "7", cwd=file.parent)
    assert (said.returncode, said.stdout) == (7, "local code 7\n")


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("::main", "--code", "x"), 2, "'x' is not a valid integer"),
        (("::main", "--nope"), 2, "--nope"),
        (("::items",), 1, "generator"),
        (("::nothing",), 1, "There is nothing called `nothing`"),
        (("",), 1, "more than one object to run"),
        ((":main",), 1, "Did you mean '::'"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(
    argv: tuple[str, ...], code: int, said: str, file: Path
) -> None:
    done = qmodal("run", f"{file}{argv[0]}", *argv[1:], cwd=file.parent)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_the_objects_options_and_needs_no_server(file: Path) -> None:
    said = qmodal("run", f"{file}::greet", "--help", cwd=file.parent, QMODAL_REDIS_URL="redis://:1")
    assert said.returncode == 0, said.stderr
    assert "--name TEXT" in said.stdout


def test_a_module_is_run_with_m(file: Path) -> None:
    said = qmodal("run", "-m", "program::main", cwd=file.parent)
    assert (said.returncode, said.stdout) == (0, "local code 0\n")


def test_ctrl_c_ends_the_app_without_complaint(
    file: Path, settings: Settings, client: Client
) -> None:
    argv = ("run", f"{file}::main", "--wait")
    with started(*argv, settings=settings, cwd=file.parent) as running:
        assert line(running) == "local code 0\n"
        running.send_signal(signal.SIGINT)
        _, complaint = running.communicate(timeout=20)
        assert (running.returncode, complaint) == (0, "")


def test_sigterm_ends_everything(file: Path) -> None:
    argv = ("run", f"{file}::main", "--wait")
    with short_folder() as temporary, no_process_left():
        with started(*argv, cwd=file.parent, more={"TMPDIR": str(temporary)}) as running:
            assert line(running) == "local code 0\n"
            assert len(list(temporary.iterdir())) == 1
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 128 + signal.SIGTERM
        assert list(temporary.iterdir()) == []


def test_a_detached_app_needs_a_server_that_stays(file: Path) -> None:
    said = qmodal("run", "-d", f"{file}::main", cwd=file.parent)
    assert said.returncode == 2
    assert "qmodal up" in said.stderr


@pytest.mark.usefixtures("box")
def test_a_detached_function_goes_on_without_its_client(
    file: Path, settings: Settings, client: Client
) -> None:
    alarm, marker = file.parent / "alarm", file.parent / "marker"
    argv = ("run", "-d", f"{file}::sleepy", "--alarm", str(alarm), "--marker", str(marker))
    with started(*argv, settings=settings, cwd=file.parent) as running:
        assert line(running) == "asleep\n"
        running.send_signal(signal.SIGINT)
        _, advice = running.communicate(timeout=20)
    assert running.returncode == 0
    alarm.touch()
    app_id = advice.split()[0]
    assert f"qmodal app stop {app_id}" in advice
    wait_until(marker.exists, what="the end of a call whose client is gone")
    assert qmodal("app", "stop", "-y", app_id, settings=settings, cwd=file.parent).returncode == 0


@pytest.mark.usefixtures("box")
def test_an_app_on_a_shared_server_is_stopped_and_its_output_complete(
    file: Path, settings: Settings, client: Client
) -> None:
    for _ in range(3):
        said = qmodal("run", f"{file}::greet", settings=settings, cwd=file.parent)
        assert said.returncode == 0, said.stderr
        assert "container greets you" in said.stdout
        assert "half a line" in said.stdout


def test_timestamps_stand_before_output(file: Path) -> None:
    said = qmodal("run", "--timestamps", f"{file}::greet", cwd=file.parent)
    (greeting,) = [part for part in said.stdout.splitlines() if "greets" in part]
    assert greeting[:2] == "20"


def test_what_is_declared_and_not_done_is_said_before_anything_runs(
    file: Path, settings: Settings
) -> None:
    declared = '@app.function(volumes={"/data": qmodal.Volume.from_name("data")})'
    file.write_text(PROGRAM.replace("@app.function()", declared, 1))
    text = "  volumes (/data): greet - use a folder that all boxes share\n"
    for command in (["run", f"{file}::main"], ["deploy", str(file)]):
        said = qmodal(*command, settings=settings, cwd=file.parent)
        assert (said.returncode, text in said.stderr) == (0, True), said.stderr
        verb, target = command
        quiet = qmodal(verb, "-q", target, settings=settings, cwd=file.parent)
        assert (quiet.returncode, quiet.stderr) == (0, ""), quiet.stderr
    qmodal("app", "stop", "-y", "cli", settings=settings, cwd=file.parent)

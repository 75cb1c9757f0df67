"""What a person types: commands that a shell completes, and a system that goes on in the background."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support.commands import PROGRAM, environ, qmodal
from tests.support.stacks import short_folder

COMPLETE = """
eval "$(qmodal completion bash)"
COMP_WORDS=({words}); COMP_CWORD={place}
_qmodal_completion qmodal
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("qmodal dep", "deploy"),
        ("qmodal app st", "stop"),
        ("qmodal deploy --str", "--strategy"),
        ("qmodal deploy --strategy rec", "recreate"),
        ("qmodal completion f", "fish"),
    ],
)
def test_bash_completes_commands_options_and_their_values(words: str, completed: str) -> None:
    path = os.pathsep.join([str(Path(PROGRAM).parent), os.environ["PATH"]])
    script = COMPLETE.format(words=words, place=len(words.split()) - 1)
    done = subprocess.run(
        ["bash", "-c", script],
        env=environ(PATH=path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == ([completed], "")


def test_up_goes_on_in_the_background_until_it_is_told_to_end() -> None:
    with short_folder() as folder:
        home = folder / "home"

        def say(*argv: str, code: int = 0) -> str:
            done = qmodal(*argv, "--home", str(home), cwd=folder)
            assert done.returncode == code, done.stderr
            return done.stdout + done.stderr

        assert say("down") == f"qmodal is not up (state in {home})\n"
        begun = say("up", "--detach", "--child", "sleep 600")
        first, *_, last = begun.splitlines()
        assert first.startswith("qmodal is up: ")
        assert last == "`qmodal down` stops it."
        assert (home / "up.log").stat().st_mode & 0o777 == 0o600
        pid = int(begun.partition("process ")[2].partition(",")[0])
        assert psutil.Process(pid).terminal() is None
        again = say("up", "--detach")
        assert again == f"qmodal is up already: process {pid}, state in {home}\n"
        found = qmodal("worker", "list", "--json", cwd=folder, QMODAL_HOME=str(home))
        assert (found.returncode, found.stdout) == (0, "[]\n")
        assert say("down", "--now") == "qmodal is down; what it held is kept for the next start\n"
        assert not psutil.pid_exists(pid)
        assert say("down").startswith("qmodal is not up")


def test_what_keeps_it_from_starting_in_the_background_is_said() -> None:
    with short_folder() as folder:
        argv = ("up", "-d", "--home", str(folder / "home"), "--bind", "host:99999")
        done = qmodal(*argv, cwd=folder)
        assert done.returncode == 2
        assert done.stderr.startswith("Error: --bind is 'host:99999'")

"""The command line as a whole: what is listed, what is loaded, how a failure ends."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from qmodal import cli
from qmodal.cli import CommandEntry, errors, main, program
from qmodal.cli.commands.run import _stored
from qmodal.embedded.private import sweep_abandoned
from qmodal.exception import (
    AuthError,
    ConfigurationError,
    Error,
    FunctionTimeoutError,
    InvalidError,
)


@click.group()
def failing() -> None:
    """Commands that fail."""


@failing.command()
def eof() -> None:
    """What a program's input() raises."""
    raise EOFError("no more input")


@failing.command()
def interrupted() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


@failing.command()
def declined() -> None:
    """A confirmation without an answer."""
    click.confirm("Sure?", abort=True)


def status(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(autouse=True)
def kept_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.delenv("QMODAL_TRACEBACK", raising=False)
    monkeypatch.setitem(cli.BUILT_IN, "failing", CommandEntry(f"{__name__}:failing", "Fail."))


def test_every_built_in_command_exists() -> None:
    context = click.Context(program)
    for name in cli.BUILT_IN:
        assert isinstance(program.get_command(context, name), click.Command), name


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_the_list_of_commands_imports_none_of_them(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(cli, "import_module", lambda name: pytest.fail(f"imported {name}"))
    shown = CliRunner().invoke(program, arguments).output
    for name in ("run", "deploy", "worker", "worker list", "autoscaler", "doctor"):
        assert f"  {name} " in shown


def test_the_help_groups_all_commands_and_shows_examples() -> None:
    grouped = [name for names in cli.SECTIONS.values() for name in names]
    assert sorted(grouped) == sorted({*cli.BUILT_IN, *cli.EXTERNAL} - {"failing"})
    done = CliRunner().invoke(program, [])
    assert done.exit_code == 0
    for title in (*cli.SECTIONS, "Examples"):
        assert f"\n{title}:\n" in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    context = click.Context(program)
    for example, _ in cli.EXAMPLES:
        assert program.get_command(context, example.split()[1]) is not None


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_completion(shell: str) -> None:
    done = CliRunner().invoke(program, ["completion", shell])
    assert done.exit_code == 0
    assert f"{shell}_complete" in done.output
    assert "qmodal" in done.output


def test_two_words_win_over_one() -> None:
    context = click.Context(program)
    name, command, rest = program.resolve_command(context, ["worker", "list", "--json"])
    assert (name, rest) == ("worker list", ["--json"])
    assert command is not None
    assert command.name == "list"


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["nope"], 2, r"Error: .*nope.* \(see qmodal --help\)\n"),
        (["run", "-q"], 2, r"Error: .*FILE.*[^.] \(see qmodal run --help\)\n"),
        (["run", "--nope"], 2, r"Error: .*--nope.*[^.] \(see qmodal run --help\)\n"),
        (["failing", "interrupted"], 130, r"\n"),
    ],
)
def test_wrong_usage_and_ctrl_c_say_one_line_at_most(
    argv: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*argv) == code
    assert re.fullmatch(said, capsys.readouterr().err)


def with_arguments(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The names of all commands that cannot do without an argument, and of groups."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        own = (*path, *name.split())
        if isinstance(command, click.Group):
            if (
                not command.invoke_without_command
            ):  # such as `control`, which is a process by itself
                yield own
            yield from with_arguments(command, own)
        elif command and any(isinstance(p, click.Argument) and p.required for p in command.params):
            yield own


@pytest.mark.parametrize("path", list(with_arguments(program)), ids=" ".join)
def test_a_command_without_its_arguments_shows_its_usage(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*path) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"{' '.join(('Usage: qmodal', *path))} [OPTIONS]")
    assert (shown.out, "--help" in shown.err) == ("", True)


def test_a_confirmation_that_nobody_gives_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert status("failing", "declined") == 1
    assert capsys.readouterr().err.endswith("Aborted.\n")


def test_end_of_input_is_the_programs_own_failure() -> None:
    with pytest.raises(EOFError, match="no more input"):
        main(["failing", "eof"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("set it"), 2),
        (AuthError("the key"), 2),
        (InvalidError("that is wrong"), 1),
        (FunctionTimeoutError("too slow"), 1),
    ],
)
def test_our_errors_are_a_message(
    error: Error, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.exit_code_of(error) == code
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_a_remote_traceback_stays_with_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    error = FunctionTimeoutError("too slow")
    error.add_note("Remote traceback (container ta-1): line 3")
    errors.exit_code_of(error)
    assert capsys.readouterr().err.endswith("too slow\nRemote traceback (container ta-1): line 3\n")


def test_everything_is_shown_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QMODAL_TRACEBACK", "1")
    assert errors.exit_code_of(InvalidError("that is wrong")) == 1
    assert "qmodal.exception.InvalidError: that is wrong" in capsys.readouterr().err


def test_a_traceback_has_no_frames_but_the_users(tmp_path: Path) -> None:
    from qmodal.source.loader import load_file

    file = tmp_path / "users_file.py"
    file.write_text("def f():\n    raise ValueError('mine')\n\nf()\n")
    with pytest.raises(ValueError, match="mine") as caught:
        load_file(file)
    trace = caught.value.__traceback__
    assert trace is not None
    # Without this test, whose frame comes first, our own are at the top.
    shown = errors.user_traceback(caught.value.with_traceback(trace.tb_next))
    assert shown is not None
    assert re.findall(r'File ".*/(.*)", line (\d+)', shown) == [
        ("users_file.py", "4"),
        ("users_file.py", "2"),
    ]
    assert shown.endswith("ValueError: mine\n")


def test_an_error_that_cannot_be_described_is_shown_by_its_type(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class ShyError(InvalidError):
        def __str__(self) -> str:
            raise SystemExit

    error = ShyError("shy")
    errors.show_failure(ShyError, error, None)
    assert "ShyError" in capsys.readouterr().err
    assert errors.exit_code_of(error) == 1
    assert "ShyError" in capsys.readouterr().err


def test_a_mistake_of_ours_is_shown_whole() -> None:
    from qmodal.cli.tables import age

    with pytest.raises(TypeError) as caught:
        age("never")  # type: ignore[arg-type]
    trace = caught.value.__traceback__
    assert trace is not None
    ours = caught.value.with_traceback(trace.tb_next)
    assert errors.user_traceback(ours) is None
    ours.add_note("Remote traceback (container ta-1): line 3")
    assert errors.user_traceback(ours) is not None


def test_a_script_from_standard_input_is_not_swept_away_with_abandoned_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x = 1\n"))
    script = Path(_stored("-"))
    os.utime(script.parent, (0, 0))
    sweep_abandoned()
    assert script.read_text() == "x = 1\n"

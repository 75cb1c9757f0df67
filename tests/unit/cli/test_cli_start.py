"""How entrypoints, functions and methods are called with what the command line gave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qmodal.app.app import App
from qmodal.cli.commands.run import write_result
from qmodal.cli.invocation import Invocation, invocation_of
from qmodal.cli.reference import Reference, Runnable, find_runnable
from qmodal.cls.partial_function import method
from qmodal.exception import InvalidError
from qmodal.spec.parameters import parameter

app = App("start")
seen: list[Any] = []


@app.local_entrypoint()
def plain(name: str, n: int = 2) -> str:
    return name * n


@app.local_entrypoint()
async def coroutine(name: str = "a") -> str:
    return name


@app.local_entrypoint()
def rest(*args: str) -> tuple[str, ...]:
    return args


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def items(n: int) -> Iterator[int]:
    yield from range(n)


@app.cls()
class Model:
    size: int = parameter()
    salt: bytes = parameter(default=b"")

    @method()
    def predict(self, text: str) -> str:
        return text * self.size


@app.cls()
class Older:
    def __init__(self, size: int = 1) -> None:
        self.size = size

    @method()
    def predict(self, text: str) -> str:
        return text * self.size


def runnable(path: str) -> Runnable:
    module = SimpleNamespace(**globals())
    return find_runnable(cast("Any", module), Reference(path=Path("t.py"), object_path=path))


def start(path: str, *argv: str) -> Any:
    made = invocation_of(runnable(path), detached=False)
    arguments = made.parse("t.py", argv)
    assert arguments is not None
    return made.call(arguments)


def test_entrypoints_run_here() -> None:
    assert start("plain", "--name", "ab") == "abab"
    assert start("coroutine", "--name", "b") == "b"
    assert start("rest", "--x", "--", "y") == ("--x", "y")


def test_help_calls_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert invocation_of(runnable("plain"), detached=False).parse("t.py", ("--help",)) is None
    assert "--name TEXT" in capsys.readouterr().out


@pytest.mark.parametrize("detached", [False, True])
def test_generators_are_refused(detached: bool) -> None:
    with pytest.raises(InvalidError, match="`items` is a generator"):
        invocation_of(runnable("items"), detached=detached)


@pytest.mark.parametrize(
    ("path", "argv", "options"),
    [
        ("square", ("--x", "3"), [{"x"}]),
        ("Model.predict", ("--size", "3", "--text", "a"), [{"size"}, {"text"}]),
        ("Older.predict", ("--text", "a"), [{"size"}, {"text"}]),
    ],
)
def test_functions_and_methods_take_their_parameters(
    path: str, argv: tuple[str, ...], options: list[set[str]]
) -> None:
    made: Invocation = invocation_of(runnable(path), detached=False)
    assert [set(signature.parameters) for signature in made.signatures] == options
    assert made.parse("t.py", argv) is not None


def test_a_result_is_written_as_it_is(tmp_path: Path) -> None:
    write_result(tmp_path / "s", "grüße")
    write_result(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "s").read_text(encoding="utf-8") == "grüße"
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    with pytest.raises(InvalidError, match="of type int"):
        write_result(tmp_path / "i", 3)

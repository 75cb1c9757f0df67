"""What Modal's programs see before anything runs: refusals, warnings and local calls."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import qmodal as modal
from qmodal.cli import main
from qmodal.client import client as clients, context
from qmodal.exception import (
    ConfigurationError,
    ExecutionError,
    InvalidError,
    UnimplementedError,
)
from qmodal.wire.signing import Signer
from tests.programs import hostile

app = modal.App("conformance")
APP_ID = "ap-" + "a" * 22

SIGNER = Signer(bytes(32))


@app.function(volumes={"/data": modal.Volume.from_name("data")})
def square(x: int) -> int:
    return x * x


@app.function()
def lines() -> Iterator[int]:
    yield 1


@app.cls()
class Model:
    size: int = modal.parameter(default=1)

    @modal.enter()
    def first(self) -> None:
        self.entered = ["first"]

    @modal.enter()
    async def second(self) -> None:
        await asyncio.sleep(0)
        self.entered.append("second")

    @modal.method()
    def seen(self) -> list[str]:
        return self.entered


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither a setting nor a running `qmodal up` names a server."""
    monkeypatch.setenv("QMODAL_HOME", str(tmp_path))
    for name in ("QMODAL_REDIS_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    before = clients.use(None)
    yield
    clients.use(before)


UNHYDRATED: dict[str, Callable[[], Any]] = {
    "remote": lambda: square.remote(1),
    "spawn": lambda: square.spawn(1),
    "map": lambda: list(square.map([1])),
    "for_each": lambda: square.for_each([1]),
    "spawn_map": lambda: square.spawn_map([1]),
    "remote_gen": lambda: list(lines.remote_gen()),
    "hydrate": lambda: square.hydrate(),
    "stats": lambda: square.get_current_stats(),
    "method": lambda: Model().seen.remote(),
    "aio": lambda: asyncio.run(square.remote.aio(1)),
    "map.aio": lambda: asyncio.run(_first(square.map.aio([1]))),
}


async def _first(results: Any) -> Any:
    return await anext(aiter(results))


@pytest.mark.parametrize("verb", UNHYDRATED)
@pytest.mark.usefixtures("no_server")
def test_an_app_that_does_not_run_is_named_before_the_server_that_is_missing(verb: str) -> None:
    text = "has not been hydrated, because the App it is defined on is not running"
    with pytest.raises(ExecutionError, match=text):
        UNHYDRATED[verb]()


@pytest.mark.usefixtures("no_server")
def test_without_a_server_a_lookup_says_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="no Redis"):
        modal.Function.from_name("a", "f").remote()


NO_TIMEOUT: dict[str, Any] = {"timeout": None}
REFUSED: dict[str, Callable[[], Any]] = {
    "deploy of a name with a space": lambda: modal.App("my app").deploy(),
    "deploy without a name": lambda: modal.App().deploy(),
    "deploy under an id": lambda: modal.App(APP_ID).deploy(),
    "deploy with a long tag": lambda: modal.App("a").deploy(tag="x" * 51),
    "lookup of a name with a space": lambda: modal.App.lookup("my app"),
    "lookup of an id to make": lambda: modal.App.lookup(APP_ID, create_if_missing=True),
    "secrets that are none": lambda: modal.App("a", secrets=["name"]),
    "no timeout": lambda: modal.App("a").function(**NO_TIMEOUT),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.usefixtures("no_server")
def test_what_has_no_meaning_is_refused_without_a_server(what: str) -> None:
    with pytest.raises(InvalidError):
        REFUSED[what]()


@pytest.mark.parametrize("kind", [modal.Dict, modal.Queue, modal.Volume, modal.Secret])
@pytest.mark.parametrize("name", ["x y", "", "x" * 65, APP_ID])
def test_objects_have_names_that_can_be_looked_up(kind: Any, name: str) -> None:
    assert kind.from_name("x" * 64) is not None
    with pytest.raises(InvalidError, match=rf"Invalid {kind.__name__} name: '{name}'\."):
        kind.from_name(name)


def test_objects_that_are_looked_up_have_no_constructor() -> None:
    with pytest.raises(RuntimeError, match="no constructor"):
        modal.Dict()


def test_a_constructor_takes_only_what_can_travel() -> None:
    text = "Only pickle-able types are allowed in remote class constructors: argument size of type"
    model: Any = Model
    with pytest.raises(ValueError, match=text):
        model(size=threading.Lock())
    with pytest.raises(ValueError, match=f"{text} <class 'function'>: .*local object"):
        model(size=lambda: 3)
    with pytest.raises(ValueError, match=f"{text} .*: KeyboardInterrupt"):
        model(size=hostile.Unpicklable("KeyboardInterrupt"))
    model(size=[1])  # its type is checked by the first call, as in Modal


class Shy:
    def __repr__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize("name", ["adopt", "encoded", "label", "method"])
def test_a_method_may_have_a_name_that_a_handle_could_have_for_itself(name: str) -> None:
    def own(self: Any) -> str:
        return f"of {self.place}"

    user_class = type("Named", (), {name: modal.method()(own), "place": "Berlin"})
    made: Any = modal.App("names").cls()(user_class)
    assert getattr(made(), name).local() == "of Berlin"


def test_an_argument_that_cannot_be_shown_is_shown_by_its_type() -> None:
    made: Any = Model
    assert repr(made(size=Shy())) == "Model(size=<Shy>)"


def test_a_local_call_warns_of_volumes_that_are_not_there() -> None:
    with pytest.warns(UserWarning, match="square function is executing locally") as caught:
        assert square.local(3) == 9
    assert caught[0].filename == __file__


def test_a_local_call_of_a_method_runs_async_hooks_in_their_turn() -> None:
    assert Model().seen.local() == ["first", "second"]

    async def within_a_loop() -> list[str]:
        return Model().seen.local()

    assert asyncio.run(within_a_loop()) == ["first", "second"]


def test_a_module_that_is_imported_for_a_container_is_not_local() -> None:
    assert modal.is_local()
    with context.importing(for_container=True):
        assert not modal.is_local()
    with context.importing():
        assert modal.is_local()
    assert modal.is_local()


def test_what_is_typed_into_a_notebook_is_serialized(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notebook = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    exec(CELL, vars(notebook))
    exec(CELL, vars(notebook))  # run again: the names are taken, and nobody minds
    entries = vars(notebook)["app"]._registry.entries
    assert {tag for tag, entry in entries.items() if entry.options.serialized} == {"f", "C.*"}
    assert "collision" not in caplog.text


CELL = """
import qmodal
from qmodal.wire.signing import Signer
if "app" not in vars():
    app = qmodal.App()

@app.function()
def f(): ...

@app.cls()
class C:
    @qmodal.method()
    def m(self): ...
"""


def test_a_large_serialized_function_warns() -> None:
    large = b"x" * 300_000
    app = modal.App("large")
    app.function(serialized=True, name="f")(lambda: large)
    with pytest.warns(UserWarning, match="bytes when serialized"):
        app._registry.entries["f"].spec(module="", signer=SIGNER, app="demo")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["-i", "-q", "f.py"], "To use interactive mode, remove the --quiet flag"),
        (["-i", "-"], "the script takes its place"),
        (["-i", "f.py"], "no interactive mode"),
    ],
)
def test_interactive_mode_is_refused_in_words(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["run", *argv])
    assert text in capsys.readouterr().err
    with pytest.raises(UnimplementedError, match="no interactive mode"):
        modal.App("a").run(interactive=True)

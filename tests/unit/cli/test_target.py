"""Which object `qmodal run` and `qmodal deploy` pick."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from qmodal.cli.reference import (
    Reference,
    find_app,
    find_runnable,
    load_reference,
    parse_reference,
)
from qmodal.exception import InvalidError


class Plain:
    """Stands for a function or a local entrypoint; `app` is its own app if it tells."""

    def __init__(self, app: Any = None, *, is_web: bool = False) -> None:
        self.app = app
        self.is_web = is_web


class Cls:
    def __init__(self, *methods: str, web: tuple[str, ...] = ()) -> None:
        self.methods = methods
        self.web = web

    def method_names(self) -> tuple[str, ...]:
        return self.methods

    def web_names(self) -> tuple[str, ...]:
        return self.web


class App:
    def __init__(self, *, entrypoints: Any = None, functions: Any = None, classes: Any = None):
        self.registered_entrypoints: dict[str, Any] = entrypoints or {}
        self.registered_functions: dict[str, Any] = functions or {}
        self.registered_classes: dict[str, Cls] = classes or {}


class LookedUpApp:
    @property
    def registered_functions(self) -> dict[str, Any]:
        raise AttributeError("defined elsewhere")

    registered_entrypoints = registered_classes = registered_functions


class Explosive:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"a stranger's {name} was evaluated")


def module_of(**values: Any) -> ModuleType:
    module = ModuleType("app")
    vars(module).update(values)
    return module


def reference(path: str = "") -> Reference:
    return Reference(path=Path("app.py"), object_path=path)


def pick(module: ModuleType, path: str = "") -> str:
    runnable = find_runnable(module, reference(path))
    return f"{runnable.kind} {runnable.name}"


@pytest.mark.parametrize(
    ("text", "as_module", "expected"),
    [
        ("app.py", False, Reference(path=Path("app.py"))),
        ("a/b.py::f", False, Reference(path=Path("a/b.py"), object_path="f")),
        ("a/b.py::app.Cls.m", False, Reference(path=Path("a/b.py"), object_path="app.Cls.m")),
        ("pkg.mod", True, Reference(module="pkg.mod")),
        ("pkg.mod::f", True, Reference(module="pkg.mod", object_path="f")),
    ],
)
def test_references(text: str, as_module: bool, expected: Reference) -> None:
    assert parse_reference(text, as_module=as_module) == expected


@pytest.mark.parametrize(
    ("text", "as_module", "advice"),
    [
        ("app.py:f", False, "Did you mean '::' instead of ':'?"),
        ("app.py::f:g", False, "Did you mean '::' instead of ':'?"),
        ("pkg.mod:f", True, "Did you mean '::' instead of ':'?"),
        ("pkg.mod", False, "add -m: `-m pkg.mod`"),
        ("pkg.mod::f", False, "add -m: `-m pkg.mod::f`"),
        ("app", False, "add -m: `-m app`"),
        ("app.txt/x", False, "must end in .py"),
        ("", False, "must end in .py"),
        ("app.py", True, "leave out the -m"),
        ("pkg/mod", True, "leave out the -m"),
    ],
)
def test_a_wrong_reference_is_answered_with_the_right_one(
    text: str, as_module: bool, advice: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_reference(text, as_module=as_module)
    assert advice in str(caught.value)


@pytest.fixture
def clean_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - before:
        del sys.modules[name]


def test_a_reference_loads_its_file_or_module(clean_interpreter: Path) -> None:
    (clean_interpreter / "someapp.py").write_text("x = 1")
    for text, as_module in (("someapp.py", False), ("someapp", True)):
        assert load_reference(parse_reference(text, as_module=as_module)).x == 1


def one_of_each() -> ModuleType:
    main, f, g, cls = Plain(), Plain(), Plain(), Cls("m", "n")
    app = App(
        entrypoints={"main": main},
        functions={"f": f, "tagged": g, "MyCls.*": Plain()},
        classes={"MyCls": cls},
    )
    return module_of(app=app, main=main, f=f, bound=g, MyCls=cls, x=Explosive(), n=3)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "entrypoint main"),
        ("main", "entrypoint main"),
        ("app.main", "entrypoint main"),
        ("app", "entrypoint main"),
        ("f", "function f"),
        ("app.f", "function f"),
        ("bound", "function tagged"),
        ("app.tagged", "function tagged"),
        ("MyCls.m", "method MyCls.m"),
        ("app.MyCls.n", "method MyCls.n"),
    ],
)
def test_spellings(path: str, expected: str) -> None:
    assert pick(one_of_each(), path) == expected


@pytest.mark.parametrize("path", ["nothing", "tagged", "mai", "app.MyCls.*", "MyCls.m.x", "n"])
def test_what_does_not_exist_is_answered_with_what_does(path: str) -> None:
    with pytest.raises(InvalidError, match="nothing called") as caught:
        pick(one_of_each(), path)
    for name in ("main", "f", "bound", "MyCls.m", "MyCls.n"):
        assert f"  app.py::{name}\n" in f"{caught.value}\n"


def test_a_method_comes_with_its_class_and_app() -> None:
    module = one_of_each()
    runnable = find_runnable(module, reference("MyCls.m"))
    assert (runnable.object, runnable.method) == (module.MyCls, "m")
    assert runnable.app is module.app


def f_and(**more: Any) -> ModuleType:
    f = Plain()
    return module_of(app=App(functions={"f": f, **more}), f=f)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (f_and(), "function f"),
        (f_and(app_only=Plain()), "function f"),
        (f_and(web=Plain(is_web=True)), "function f"),
        (module_of(a=App(functions={"f": Plain(), "C.*": Plain()})), "function f"),
        (module_of(a=App(classes={"C": Cls("only")})), "method C.only"),
        (module_of(a=App(entrypoints={"e": Plain()}, functions={"f": Plain()})), "entrypoint e"),
    ],
)
def test_the_best_group_with_one_member_wins(module: ModuleType, expected: str) -> None:
    assert pick(module) == expected


def test_a_bound_function_comes_before_an_entrypoint_only_the_app_knows() -> None:
    f = Plain()
    assert pick(module_of(app=App(entrypoints={"e": Plain()}, functions={"f": f}), f=f)) == (
        "function f"
    )


@pytest.mark.parametrize(
    ("module", "path", "listed"),
    [
        (module_of(app=App(functions={"f": Plain(), "g": Plain()})), "", ["app.f", "app.g"]),
        (module_of(app=App(entrypoints={"a": Plain(), "b": Plain()})), "", ["app.a", "app.b"]),
        (one_of_each(), "MyCls", ["MyCls.m", "MyCls.n"]),
        (one_of_each(), "app.MyCls", ["MyCls.m", "MyCls.n"]),
    ],
)
def test_a_choice_is_left_to_the_user(module: ModuleType, path: str, listed: list[str]) -> None:
    with pytest.raises(InvalidError, match="more than one") as caught:
        pick(module, path)
    lines = str(caught.value).splitlines()[1:]
    assert lines == [f"  app.py::{name}" for name in listed]


@pytest.mark.parametrize(
    "module",
    [
        module_of(),
        module_of(app=App()),
        module_of(app=LookedUpApp(), x=Explosive()),
        module_of(app=App(functions={"C.*": Plain()})),
    ],
)
def test_nothing_to_run_is_said(module: ModuleType) -> None:
    with pytest.raises(InvalidError, match=r"defines nothing to run"):
        pick(module)


@pytest.mark.parametrize("path", ["", "page", "C.page"])
def test_who_means_a_web_function_is_told_how_it_is_served(path: str) -> None:
    functions = {"page": Plain(is_web=True), "C.*": Plain()}
    app = App(functions=functions, classes={"C": Cls(web=("page",))})
    with pytest.raises(InvalidError, match=r"`qmodal serve app\.py` serves it"):
        pick(module_of(app=app), path)
    app.registered_functions["f"] = Plain()
    if not path:
        assert pick(module_of(app=app)) == "function f"


def test_a_function_that_no_app_has_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "slip.py"
    file.write_text(
        "import qmodal\n"
        "app = qmodal.App()\n"
        "@qmodal.concurrent(max_inputs=2)\n"
        "def forgotten(): ...\n"
        "@qmodal.asgi_app()\n"
        "def late(): ...\n"
        "app.function()(late)\n"
        "@app.function()\n"
        "@qmodal.asgi_app()\n"
        "def usual(): ...\n"
    )
    load_reference(Reference(path=file))
    said = capsys.readouterr().err
    assert "`forgotten` belongs to no app" in said
    assert len(said.splitlines()) == 1


def test_an_imported_function_runs_but_hides_no_entrypoint() -> None:
    other = App(functions={"hidden": Plain()})
    f = Plain(other)
    other.registered_functions["f"] = f
    assert pick(module_of(f=f)) == "function f"
    assert find_runnable(module_of(f=f), reference()).app is other
    main = Plain()
    assert pick(module_of(f=f, app=App(entrypoints={"main": main}), main=main)) == "entrypoint main"


def test_an_included_function_runs_in_the_app_that_is_named() -> None:
    f = Plain()
    part, app = App(functions={"f": f}), App(functions={"f": f})
    module = module_of(part=part, app=app, f=f)
    for path, expected in (("f", app), ("app.f", app), ("part.f", part), ("part", part)):
        assert find_runnable(module, reference(path)).app is expected


def test_the_app_to_deploy_is_called_app_unless_it_is_named() -> None:
    first, second = App(), App()
    module = module_of(app=first, second=second, x=1)
    assert find_app(module, reference()) is first
    assert find_app(module, reference("second")) is second


@pytest.mark.parametrize(
    ("module", "path", "advice"),
    [
        (module_of(), "", "define one"),
        (module_of(app=LookedUpApp()), "", "define one"),
        (module_of(shop=App()), "", "say `app.py::shop`."),
        (module_of(a=App(), b=App()), "", "say one of `app.py::a`, `app.py::b`."),
        (module_of(app=App(), f=Plain()), "f", "say `app.py::app`."),
    ],
)
def test_a_missing_app_is_answered_with_what_to_say(
    module: ModuleType, path: str, advice: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        find_app(module, reference(path))
    assert advice in str(caught.value)


def test_a_dotted_app_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError, match="without dots"):
        find_app(module_of(app=App()), reference("app.f"))

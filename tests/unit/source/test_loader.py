"""A user's file gets one module name, the same in every process, and never another module's."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import qmodal.source.loader as loader
from qmodal.exception import InvalidError
from qmodal.source.loader import load_file, load_module, module_name_of


@pytest.fixture(autouse=True)
def own_interpreter_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]
    sys.modules.update(before)


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("app.py", "app"),
        ("my-app.py", "my-app"),
        ("queue.py", "qmodal_user_queue"),
        ("click.py", "qmodal_user_click"),
        ("qmodal.py", "qmodal_user_qmodal"),
        ("__main__.py", "qmodal_user___main__"),
    ],
)
def test_a_file_is_named_after_its_stem_unless_that_is_taken(
    tmp_path: Path, file: str, name: str
) -> None:
    path = write(tmp_path / "src" / file, "here = __name__")
    assert module_name_of(path) == name
    module = load_file(path)
    assert module.__name__ == name
    assert module.here == name
    assert sys.modules[name] is module
    assert module_name_of(path) == name


def test_a_package_of_the_same_name_is_not_hidden(tmp_path: Path) -> None:
    write(tmp_path / "train" / "__init__.py", "size = 3")
    path = write(tmp_path / "train.py", "from train import size")
    assert load_file(path).size == 3
    assert module_name_of(path) == "qmodal_user_train"


def test_the_module_that_a_file_is_named_after_stays_importable(tmp_path: Path) -> None:
    write(tmp_path / "fractions.py", "from fractions import Fraction")
    code = (
        "from pathlib import Path; from qmodal.source.loader import load_file;"
        "m = load_file(Path('fractions.py')); print(m.__name__, m.Fraction(1, 2))"
    )
    root = Path(loader.__file__).parents[2]
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.append({str(root)!r}); {code}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output == "qmodal_user_fractions 1/2\n"


def test_the_main_block_does_not_run(tmp_path: Path) -> None:
    path = write(tmp_path / "app.py", "ran = False\nif __name__ == '__main__': ran = True")
    assert load_file(path).ran is False


def test_the_file_and_the_current_folder_come_first_on_the_path(tmp_path: Path) -> None:
    write(tmp_path / "near.py", "place = 'current folder'")
    write(tmp_path / "sub" / "near.py", "place = 'file folder'")
    write(tmp_path / "far.py", "place = 'current folder'")
    path = write(tmp_path / "sub" / "app.py", "import near, far\nfound = near.place, far.place")
    assert load_file(path).found == ("file folder", "current folder")
    assert sys.path[:2] == [str(tmp_path / "sub"), str(tmp_path)]


def test_a_file_runs_once(tmp_path: Path) -> None:
    write(tmp_path / "counter.py", "runs = []")
    path = write(tmp_path / "app.py", "import counter; counter.runs.append(1)")
    assert load_file(path) is load_file(Path("app.py"))
    assert sys.modules["counter"].runs == [1]


def test_another_file_of_the_same_stem_takes_the_name_over(tmp_path: Path) -> None:
    first = load_file(write(tmp_path / "a" / "app.py", "which = 'a'"))
    second = load_file(write(tmp_path / "b" / "app.py", "which = 'b'"))
    assert (first.which, second.which, second.__name__) == ("a", "b", "app")


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("my.app.py", "", "call it `my_app.py`"),
        ("app.txt", "", "must end in .py"),
        ("pkg/__init__.py", "", "`-m pkg`"),
        ("pkg/app.py", "from . import other", "`-m pkg.app`"),
        ("pkg/app.py", "from .other import x", "`-m pkg.app`"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_advice(
    tmp_path: Path, file: str, text: str, sentence: str
) -> None:
    path = write(tmp_path / file, text)
    with pytest.raises(InvalidError, match=sentence.replace(".", r"\.")):
        load_file(path)
    assert "app" not in sys.modules


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"There is no file nowhere\.py"):
        load_file(Path("nowhere.py"))


def test_what_the_file_raises_comes_through_and_leaves_no_half_module(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        load_file(write(tmp_path / "app.py", "1 / 0"))
    with pytest.raises(ModuleNotFoundError):
        load_file(write(tmp_path / "app2.py", "import nothing_of_this_name"))
    assert not {"app", "app2"} & sys.modules.keys()


def test_a_module_is_loaded_from_the_current_folder(tmp_path: Path) -> None:
    write(tmp_path / "shop" / "__init__.py")
    write(tmp_path / "shop" / "till.py", "from . import __name__ as parent")
    assert load_module("shop.till").parent == "shop"


@pytest.mark.parametrize("dotted", ["nothing_here", "shop.nothing", "shop.", "a b", ""])
def test_a_missing_module_is_named(tmp_path: Path, dotted: str) -> None:
    write(tmp_path / "shop" / "__init__.py")
    with pytest.raises(InvalidError, match=f"`{dotted}`"):
        load_module(dotted)


def test_a_module_that_misses_a_module_says_which(tmp_path: Path) -> None:
    write(tmp_path / "broken.py", "import nothing_of_this_name")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        load_module("broken")


def test_objects_of_main_travel_both_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "class Point: pass\nif __name__ == '__main__': raise SystemExit"
    container = load_file(write(tmp_path / "app.py", text))
    producer = ModuleType("__main__")
    producer.Point = type("Point", (), {"__module__": "__main__"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", producer)
    sent = pickle.dumps(producer.Point())

    sys.modules["__main__"] = container  # as `load_version` of a container does
    assert type(pickle.loads(sent)) is container.Point
    answer = pickle.dumps(container.Point())

    sys.modules["__main__"] = producer
    loader.alias_main("app")
    assert type(pickle.loads(answer)) is producer.Point


@pytest.mark.parametrize(
    ("command", "origin"),
    [
        (["app.py"], "(PosixPath('{here}/app.py'), None)"),
        (["-m", "app"], "(None, 'app')"),
        (["-c", "import app"], "(None, None)"),
    ],
)
def test_a_running_program_knows_where_it_came_from(
    tmp_path: Path, command: list[str], origin: str
) -> None:
    root = Path(loader.__file__).parents[2]
    write(
        tmp_path / "app.py",
        f"import sys; sys.path.append({str(root)!r})\n"
        "from qmodal.source.loader import main_origin\nprint(main_origin())",
    )
    output = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    relative_or_not = origin.format(here=tmp_path)
    assert output.strip() in (relative_or_not, relative_or_not.replace(f"{tmp_path}/", ""))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package in `src`, one beside it, and one that is a level deeper."""
    for name in ("src/proj/__init__.py", "pkg/__init__.py", "pkg/sub/__init__.py"):
        write(tmp_path / name)
    for name in ("src/proj/app.py", "pkg/app.py", "pkg/sub/app.py"):
        write(tmp_path / name, "from . import nothing")
    return tmp_path


@pytest.mark.parametrize(
    ("seen_from", "file", "advice"),
    [
        (".", "pkg/app.py", "as in `-m pkg.app`."),
        (".", "pkg/sub/app.py", "as in `-m pkg.sub.app`."),
        (".", "src/proj/app.py", "as in `-m proj.app` with `PYTHONPATH=src` before the command."),
        ("pkg/sub", "app.py", "as in `-m pkg.sub.app` with `PYTHONPATH=../..` before the command."),
        ("src", "proj/app.py", "as in `-m proj.app`."),
        (".", "src/proj/__init__.py", "`-m proj` with `PYTHONPATH=src` before the command."),
    ],
)
def test_the_advice_for_a_file_of_a_package_can_be_followed(
    project: Path, monkeypatch: pytest.MonkeyPatch, seen_from: str, file: str, advice: str
) -> None:
    monkeypatch.chdir(project / seen_from)
    with pytest.raises(InvalidError) as failure:
        load_file(Path(file))
    assert str(failure.value).endswith(advice)


@pytest.mark.parametrize(
    ("seen_from", "module", "advice"),
    [
        (".", "proj.app", " It is there with `PYTHONPATH=src` before the command."),
        ("pkg/sub", "pkg.sub.app", " It is there with `PYTHONPATH=../..` before the command."),
        (".", "proj", " It is there with `PYTHONPATH=src` before the command."),
        (".", "proj.nope", ""),
    ],
)
def test_a_module_that_is_not_here_is_looked_for_in_src_and_further_up(
    project: Path, monkeypatch: pytest.MonkeyPatch, seen_from: str, module: str, advice: str
) -> None:
    monkeypatch.chdir(project / seen_from)
    with pytest.raises(InvalidError) as failure:
        load_module(module)
    assert str(failure.value) == f"There is no module `{module}` (seen from {Path.cwd()}).{advice}"

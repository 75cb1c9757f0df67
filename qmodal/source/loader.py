"""The user's file or module, loaded under the one name that every process imports it by."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from qmodal.exception import InvalidError

RENAMED = "qmodal_user_"

# What the interpreter came with. Folders that are added later are users' own, and a file there
# with the same name is no clash: the bundle lets the file's folder win.
_PATH_AT_START = tuple(sys.path)


def module_name_of(path: Path) -> str:
    """The name a file is loaded under: its stem, or `qmodal_user_<stem>` if that name is taken.

    Raises InvalidError for a stem that no module can have.
    """
    stem = path.stem
    if "." in stem:
        raise InvalidError(
            f"{path.name}: a file name may have no dot but the one before `py`; "
            f"call it `{stem.replace('.', '_')}.py`."
        )
    if stem == "__init__":
        raise InvalidError(f"{path} is a package; name it with -m: {_as_module(path)}.")
    return f"{RENAMED}{stem}" if _is_taken(stem, _located(path)) else stem


def load_file(path: Path) -> ModuleType:
    """Load a file in script mode; its module name is the result's `__name__`.

    The file's folder and the current one go to the front of `sys.path`. A file that is loaded
    already is not run again. Raises InvalidError for what is no Python file, and lets through
    whatever the file itself raises.
    """
    location = _located(path)
    if path.suffix != ".py":
        raise InvalidError(f"{path} is not a Python file: its name must end in .py.")
    if not location.is_file():
        raise InvalidError(f"There is no file {path} (seen from {Path.cwd()}).")
    name = module_name_of(path)
    loaded = sys.modules.get(name)
    if loaded is not None and _is_loaded_from(loaded, location):
        return loaded
    if name != location.stem:
        _import_namesake(location)
    put_on_path(location.parent, Path.cwd())
    return _execute(name, location)


def load_module(dotted: str) -> ModuleType:
    """Import `pkg.module` with the current folder at the front of `sys.path`.

    Raises InvalidError if there is no such module.
    """
    if not all(part.isidentifier() for part in dotted.split(".")):
        raise InvalidError(f"`{dotted}` is no module path such as `package.module`.")
    put_on_path(Path.cwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name and f"{dotted}.".startswith(f"{error.name}."):
            raise InvalidError(
                f"There is no module `{dotted}` (seen from {Path.cwd()}).{_elsewhere(dotted)}"
            ) from error
        raise


def put_on_path(*folders: Path) -> None:
    """Move folders to the front of `sys.path`, the first one first."""
    front = list(dict.fromkeys(str(folder) for folder in folders))
    sys.path[:] = [*front, *(entry for entry in sys.path if entry not in front)]


def main_origin() -> tuple[Path | None, str | None]:
    """Where `__main__` came from: (file, None), (None, module of `-m`), or (None, None)."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return None, spec.name
    file = Path(getattr(main, "__file__", None) or "")
    return (file, None) if file.suffix == ".py" and file.is_file() else (None, None)


def is_typed() -> bool:
    """Whether this program was typed in, cell by cell or line by line: no container could import it."""
    return main_origin() == (None, None)


def alias_main(name: str) -> None:
    """Producer of `python app.py`: `name` means the running program, which must not run twice."""
    sys.modules[name] = sys.modules["__main__"]


def _located(path: Path) -> Path:
    # The folder is resolved and the file is not: a link's own name is the module's name.
    return path.absolute().parent.resolve() / path.name


def _is_taken(stem: str, location: Path) -> bool:
    if stem in ("__main__", "qmodal") or stem in sys.stdlib_module_names:
        return True
    # `import app` prefers app/__init__.py to app.py, so the two cannot share a name.
    if (location.parent / stem / "__init__.py").is_file():
        return True
    spec = PathFinder.find_spec(stem, _foreign_path(location.parent))
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() != location


def _foreign_path(beside: Path) -> list[str]:
    ours = {Path.cwd(), beside}
    return [entry for entry in _PATH_AT_START if entry and Path(entry).resolve() not in ours]


def _import_namesake(location: Path) -> None:
    """Import the real `queue` before a user's folder with a queue.py comes in front of it."""
    with _only_foreign_path(location.parent), contextlib.suppress(ImportError):
        importlib.import_module(location.stem)


@contextlib.contextmanager
def _only_foreign_path(beside: Path) -> Iterator[None]:
    before = sys.path[:]
    sys.path[:] = _foreign_path(beside)
    try:
        yield
    finally:
        sys.path[:] = before


def _is_loaded_from(module: ModuleType, location: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and _located(Path(file)) == location


def _execute(name: str, location: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, location)
    if spec is None or spec.loader is None:
        raise InvalidError(f"{location} cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, ImportError) and "no known parent package" in str(error):
            raise InvalidError(
                f"{location.name} uses a relative import, which needs its package: "
                f"use -m, as in {_as_module(location)}."
            ) from error
        raise
    return module


def _as_module(path: Path) -> str:
    """How -m would name the file, and what has to be set so that it is found."""
    dotted, root = _dotted(path)
    if root == Path.cwd() or str(root) in _PATH_AT_START:
        return f"`-m {dotted}`"
    return f"`-m {dotted}` with {_on_path(root)}"


def _dotted(path: Path) -> tuple[str, Path]:
    """The file's name from the topmost folder that is a package, and the folder which holds that."""
    location = _located(path)
    names = [] if location.stem == "__init__" else [location.stem]
    folder = location.parent
    # A relative import means that the folder is used as a package, marked as one or not.
    names.insert(0, folder.name)
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
        names.insert(0, folder.name)
    return ".".join(names), folder.parent


def _elsewhere(dotted: str) -> str:
    """The advice for a module that is not in the current folder but in `src`, or further up."""
    relative = Path(*dotted.split("."))
    for root in (Path.cwd() / "src", *Path.cwd().parents):
        if any((root / name).is_file() for name in (f"{relative}.py", relative / "__init__.py")):
            return f" It is there with {_on_path(root)}."
    return ""


def _on_path(root: Path) -> str:
    return f"`PYTHONPATH={shlex.quote(os.path.relpath(root))}` before the command"

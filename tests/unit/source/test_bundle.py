"""A bundle holds what the program needs and nothing else, and unpacks whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import qmodal.source.bundle as bundle
from qmodal.exception import DeserializationError, InvalidError, RequestSizeError
from qmodal.source.bundle import (
    collect,
    pack,
    roots_of,
    unpack,
    unpacked,
    unused,
)
from qmodal.source.ignore import is_ignored, rule_of
from qmodal.source.imports import imported_names
from qmodal.source.loader import load_file
from qmodal.source.unpacked_code import discard


@pytest.fixture(autouse=True)
def own_interpreter_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(entry: Path, extra: Sequence[str] = ()) -> set[str]:
    return {file.name for file in collect(entry, None, roots_of(entry), extra).files}


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a, b.c as d", {"a", "b"}),
        ("from a.b import c", {"a"}),
        ("from . import a, b\nfrom .c.d import e", {"a", "b", "c"}),
        ("def f():\n  class X:\n    def g(self):\n      import a", {"a"}),
        (
            "if TYPE_CHECKING:\n  import a\ntry:\n  import b\nexcept ImportError:\n  pass",
            {"a", "b"},
        ),
        ("import importlib\nx = importlib.import_module('a.b')", {"importlib", "a"}),
        ("__import__('a')\nimport_module(name)\nimport_module()", {"a"}),
        ("this is no python", set()),
        ("x = '\\d'  # an escape that warns\nimport a", {"a"}),
        ("import a\x00", set()),
    ],
)
def test_imports_are_found_at_any_depth(source: str, expected: set[str]) -> None:
    assert imported_names(source.encode()) == expected


@pytest.mark.parametrize(
    ("pattern", "ignored", "kept"),
    [
        ("secret.txt", ["secret.txt", "a/b/secret.txt"], ["secret.txt.py"]),
        ("*.log", ["x.log", "a/x.log"], ["x.logs"]),
        ("build/", ["build/", "a/build/"], ["build"]),
        ("/top.py", ["top.py"], ["a/top.py"]),
        ("a/b.py", ["a/b.py"], ["c/a/b.py", "b.py"]),
        ("a/*.py", ["a/b.py"], ["a/c/b.py"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["xy"]),
        ("a/**/x", ["a/x", "a/b/c/x"], ["x"]),
        ("a/**", ["a/x", "a/b/x"], ["a/", "b"]),
        ("[ab]?.py", ["a1.py", "x/b2.py"], ["c1.py"]),
        (r"\#x", ["#x"], ["x"]),
        ("# words", [], ["# words", "words"]),
        ("/", [], ["a"]),
        ("   ", [], ["a"]),
    ],
)
def test_ignore_patterns(pattern: str, ignored: list[str], kept: list[str]) -> None:
    rules = [rule for rule in [rule_of(pattern, Path("/r"))] if rule]

    def is_out(name: str) -> bool:
        return is_ignored(Path("/r") / name, rules, is_folder=name.endswith("/"))

    assert [name for name in ignored if not is_out(name)] == []
    assert [name for name in kept if is_out(name)] == []


def test_a_later_ignore_rule_wins_over_an_earlier_one() -> None:
    rules = [rule for line in ("*.txt", "!keep.txt") if (rule := rule_of(line, Path("/r")))]
    assert is_ignored(Path("/r/a.txt"), rules, is_folder=False)
    assert not is_ignored(Path("/r/keep.txt"), rules, is_folder=False)


def test_a_script_brings_its_neighbours_and_whole_packages_but_nothing_installed(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        {
            "app.py": "import os, click, qmodal, near\ndef f():\n  import pkg.deep",
            "near.py": "from space import part",
            "stranger.py": "",
            "pkg/__init__.py": "from . import deep; import fromcwd",
            "pkg/deep.py": "",
            "pkg/never_imported.py": "",
            "pkg/table.csv": "1,2",
            "space/part.py": "",
            "fromcwd.py": "import app",
            "qmodal/__init__.py": "",
        },
    )
    assert names(tmp_path / "app.py") == {
        "app.py",
        "near.py",
        "pkg/__init__.py",
        "pkg/deep.py",
        "pkg/never_imported.py",
        "pkg/table.csv",
        "space/part.py",
        "fromcwd.py",
    }


def test_the_folder_of_the_file_wins_over_the_current_one(tmp_path: Path) -> None:
    write(tmp_path, {"near.py": "cwd", "far.py": "", "space/one.py": "", "space/both.py": ""})
    write(tmp_path / "sub", {"app.py": "import near, far, space.one", "near.py": ""})
    write(tmp_path / "sub/space", {"two.py": "", "both.py": "#"})
    entry = tmp_path / "sub" / "app.py"
    files = {file.name: file.path for file in collect(entry, None, roots_of(entry)).files}
    assert files.keys() == {
        "app.py",
        "near.py",
        "far.py",
        "space/one.py",
        "space/two.py",
        "space/both.py",
    }
    assert files["near.py"] == tmp_path / "sub/near.py"
    assert files["space/both.py"] == tmp_path / "sub/space/both.py"


def test_what_is_no_source_is_left_out(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(
        tmp_path,
        {
            ".gitignore": "*.tmp\n/pkg/drafts/\n!pkg/kept.tmp",
            "app.py": "import pkg",
            "pkg/__init__.py": "",
            "pkg/.gitignore": "local.txt",
            "pkg/local.txt": "",
            "pkg/a.tmp": "",
            "pkg/kept.tmp": "",
            "pkg/drafts/x.py": "",
            "pkg/__pycache__/x.pyc": "",
            "pkg/.env": "PASSWORD=x",
            "pkg/.cache/x.py": "",
            "pkg/env/pyvenv.cfg": "",
            "pkg/env/lib.py": "",
            "pkg/sub/x.py": "",
        },
    )
    os.mkfifo(tmp_path / "pkg" / "pipe")
    (tmp_path / "pkg" / os.fsdecode(b"not-utf8-\xff.txt")).touch()
    (tmp_path / "pkg" / "broken").symlink_to("nowhere")
    (tmp_path / "pkg" / "itself").symlink_to("itself")
    (tmp_path / "pkg" / "sub" / "up").symlink_to(tmp_path / "pkg")
    (tmp_path / "pkg" / "alias").symlink_to(tmp_path / "pkg" / "sub")
    assert names(tmp_path / "app.py") == {
        "app.py",
        "pkg/__init__.py",
        "pkg/kept.tmp",
        "pkg/sub/x.py",
        "pkg/alias/x.py",
    }


def test_an_ignored_file_that_is_imported_comes_along(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "_version.py\nstub.py\ngen/",
            "app.py": "import pkg, stub",
            "stub.py": "",
            "pkg/__init__.py": "from pkg._version import x; import pkg.gen.api",
            "pkg/_version.py": "x = 1",
            "pkg/gen/__init__.py": "",
            "pkg/gen/api.py": "",
            "pkg/gen/unused.py": "",
        },
    )
    load_file(tmp_path / "app.py")
    assert names(tmp_path / "app.py") == {
        "app.py",
        "stub.py",
        "pkg/__init__.py",
        "pkg/_version.py",
        "pkg/gen/__init__.py",
        "pkg/gen/api.py",
    }


def test_a_namesake_of_an_installed_module_hides_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"click.py": "import click, queue", "queue.py": ""})
    collection = collect(tmp_path / "click.py", None, roots_of(tmp_path / "click.py"))
    assert [file.name for file in collection.files] == ["qmodal_user_click.py"]
    assert collection.entry == "qmodal_user_click"


def test_a_package_installed_from_below_the_current_folder_is_first_party(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "venv/lib/site-packages"
    write(tmp_path / "src", {"library/__init__.py": ""})
    write(library, {"third_party/__init__.py": ""})
    write(tmp_path / "scripts", {"app.py": "import library, third_party"})
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.syspath_prepend(str(library))
    assert names(tmp_path / "scripts/app.py") == {"app.py", "library/__init__.py"}


def test_a_module_brings_its_top_level_package(tmp_path: Path) -> None:
    write(tmp_path, {"shop/__init__.py": "", "shop/till.py": "import near", "near.py": ""})
    collection = collect(None, "shop.till", roots_of(None))
    assert collection.entry == "shop.till"
    assert [f.name for f in collection.files] == ["near.py", "shop/__init__.py", "shop/till.py"]


def test_an_installed_module_is_expected_to_be_installed_on_the_workers_too() -> None:
    collection = collect(None, "iniconfig.exceptions", roots_of(None))
    assert (collection.entry, collection.files) == ("iniconfig.exceptions", ())


def test_an_editable_project_elsewhere_is_found_by_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "elsewhere"
    write(project, {"shop/__init__.py": "import near", "near.py": ""})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(project))
    collection = collect(None, "shop", roots_of(None))
    assert [file.name for file in collection.files] == ["near.py", "shop/__init__.py"]


def test_added_modules_come_from_wherever_they_are(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "pkg/__init__.py": ""})
    found = names(tmp_path / "app.py", ["pkg", "iniconfig"])
    assert {"app.py", "pkg/__init__.py", "iniconfig/__init__.py"} <= found
    with pytest.raises(InvalidError, match="`nothing_here`"):
        names(tmp_path / "app.py", ["nothing_here"])
    with pytest.raises(InvalidError, match="`nothing_here`"):
        collect(None, "nothing_here", roots_of(None))


def test_large_files_that_are_no_python_are_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_OTHER_FILE", 10)
    write(tmp_path, {"app.py": "import pkg", "pkg/__init__.py": "#" * 50})
    write(tmp_path, {"pkg/weights.bin": "x" * 11, "pkg/small.bin": "x" * 10})
    write(tmp_path, {"pkg/.gitignore": "*.cache", "pkg/known.cache": "x" * 11})
    with pytest.warns(UserWarning, match=r"no Python: pkg/weights\.bin \(.* MiB\)\. Put") as said:
        collection = collect(tmp_path / "app.py", None, roots_of(tmp_path / "app.py"))
    assert len(said) == 1
    assert [f.name for f in collection.files] == ["app.py", "pkg/__init__.py", "pkg/small.bin"]
    assert collection.total == 10 + 50 + 10


def test_too_much_source_names_the_ten_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_TOTAL", bundle.MIB)
    write(tmp_path, {"app.py": "import pkg"})
    write(tmp_path / "pkg", {f"m{n:02}.py": "#" * (n * 20_000) for n in range(12)})
    with pytest.raises(RequestSizeError) as caught:
        names(tmp_path / "app.py")
    named = [f"m{n:02}.py" for n in range(12) if f"m{n:02}.py" in str(caught.value)]
    assert named == [f"m{n:02}.py" for n in range(2, 12)]
    assert "at most 50000 files and 1 MiB" in str(caught.value)


def test_the_same_files_give_the_same_bundle(tmp_path: Path) -> None:
    bundles = []
    for folder in ("one", "two"):
        write(tmp_path / folder, {"app.py": "import pkg", "pkg/__init__.py": "", "pkg/b.txt": "b"})
        entry = tmp_path / folder / "app.py"
        os.utime(entry, (1, len(folder) * 1_000_000_000))
        bundles.append(pack(collect(entry, None, roots_of(entry))))
        (tmp_path / "one" / "pkg" / "__init__.py").chmod(0o600)
    assert bundles[0] == bundles[1]
    assert bundles[0].digest == hashlib.sha256(bundles[0].content).hexdigest()


def test_a_bundle_unpacks_to_importable_code(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "import pkg\nvalue = pkg.value", "pkg/__init__.py": "value = 7"})
    packed = pack(collect(tmp_path / "app.py", None, roots_of(tmp_path / "app.py")))
    cache = tmp_path / "cache"
    assert unpacked(packed.digest, cache) is None
    folder = unpack(packed.content, packed.digest, cache)
    assert folder == cache / packed.digest == unpacked(packed.digest, cache)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert listing(cache) == [packed.digest, f"{packed.digest}.sha256"]
    (folder / "marker").touch()
    assert unpack(b"is not even looked at", packed.digest, cache) == folder
    assert (folder / "marker").exists()


def archive_of(*members: tuple[str, bytes]) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest()


@pytest.mark.parametrize("name", ["../x.py", "/x.py", "a/../../x.py", "a/..", ".", "folder/"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    content, digest = archive_of(("good.py", b""), (name, b"x"))
    with pytest.raises(DeserializationError, match="outside its folder"):
        unpack(content, digest, tmp_path / "deep" / "cache")
    assert listing(tmp_path / "deep" / "cache") == []


def test_a_bundle_that_is_damaged_is_not_opened(tmp_path: Path) -> None:
    content, digest = archive_of(("app.py", b""))
    with pytest.raises(DeserializationError, match="damaged"):
        unpack(content + b"x", digest, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    garbage = b"no zip"
    with pytest.raises(DeserializationError, match="cannot be unpacked"):
        unpack(garbage, hashlib.sha256(garbage).hexdigest(), tmp_path / "cache")
    assert listing(tmp_path / "cache") == []


@pytest.mark.parametrize("digest", ["", "..", "../" + "a" * 61, "A" * 64, "g" * 64, "a" * 63])
def test_only_a_sha256_names_a_bundle(tmp_path: Path, digest: str) -> None:
    with pytest.raises(DeserializationError, match="sha256"):
        unpack(b"", digest, tmp_path)


def test_a_bundle_that_would_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_TOTAL", 100_000)
    monkeypatch.setattr(bundle, "MAX_FILES", 2)
    for members in ([("a", b"0" * 100_001)], [(name, b"") for name in "abc"]):
        content, digest = archive_of(*members)
        with pytest.raises(RequestSizeError):
            unpack(content, digest, tmp_path / "cache")


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    content, _ = archive_of(("bomb", b"0" * 1_000_000))
    lying = content.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    with pytest.raises(DeserializationError):
        unpack(lying, hashlib.sha256(lying).hexdigest(), tmp_path / "cache")
    assert listing(tmp_path / "cache") == []


def test_what_nobody_has_used_for_long_is_found_and_removed(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "x = 1"})
    packed = pack(collect(tmp_path / "app.py", None, roots_of(tmp_path / "app.py")))
    cache = tmp_path / "cache"
    assert list(unused(cache, since=time.time())) == []
    old, torn = unpack(packed.content, packed.digest, cache), cache / ".torn"
    torn.mkdir()
    for folder in (old, torn):
        os.utime(folder, (1_000, 1_000))
    assert set(unused(cache, since=2_000)) == {old, torn}
    assert unpacked(packed.digest, cache) == old
    assert list(unused(cache, since=2_000)) == [torn]
    for folder in (old, torn, cache / "missing"):
        discard(folder)
    assert list(cache.iterdir()) == []


def test_workers_that_unpack_at_the_same_time_all_get_the_whole_folder(tmp_path: Path) -> None:
    members = [(f"pkg/m{n:03}.py", bytes([65 + n % 26]) * 2000) for n in range(200)]
    content, digest = archive_of(*members)
    (tmp_path / "bundle.zip").write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from qmodal.source.bundle import unpack\n"
        "content = Path('bundle.zip').read_bytes(); print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        f"folder = unpack(content, {digest!r}, Path('cache'))\n"
        "print(folder, sum(f.stat().st_size for f in folder.glob('pkg/*.py')))"
    )
    root = str(Path(bundle.__file__).parents[2])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": root},
        )
        for _ in range(4)
    ]
    assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["ready\n"] * 4
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.communicate()[0] for worker in workers] == [f"cache/{digest} 400000\n"] * 4
    assert listing(tmp_path / "cache") == [digest, f"{digest}.sha256"]

"""The folder of unpacked code: whose it is, and whether it is still what was unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmodal.exception import ConfigurationError, DeserializationError
from qmodal.source.bundle import Bundle, collect, pack, unpack, unpacked
from qmodal.source.unpacked_code import check_unchanged, digests_of


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    source = tmp_path / "src"
    source.mkdir()
    (source / "main.py").write_text("import part\n")
    (source / "part.py").write_text("x = 1\n")
    return pack(collect(source / "main.py", None, [source]))


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    return unpack(bundle.content, bundle.digest, tmp_path / "code")


def test_what_was_unpacked_may_be_imported_and_jobs_may_write_beside_it(folder: Path) -> None:
    check_unchanged(folder)
    (folder / "data.json").write_text("{}")
    (folder / "__pycache__").mkdir()
    check_unchanged(folder)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "part.py").write_text("x = 2\n"),
        lambda folder: (folder / "part.py").unlink(),
        lambda folder: (folder / "part.py").chmod(0o666),
        lambda folder: folder.chmod(0o777),
        lambda folder: digests_of(folder).unlink(),
        lambda folder: digests_of(folder).write_bytes(b"\xff"),
    ],
    ids=["changed", "missing", "open file", "open folder", "no digests", "odd digests"],
)
def test_code_that_is_not_what_was_unpacked_is_removed_and_unpacked_again(
    folder: Path, bundle: Bundle, harm: object
) -> None:
    harm(folder)  # type: ignore[operator]
    with pytest.raises(DeserializationError, match="jobs should write elsewhere"):
        check_unchanged(folder)
    assert unpacked(bundle.digest, folder.parent) is None
    check_unchanged(unpack(bundle.content, bundle.digest, folder.parent))


def test_a_folder_that_others_can_write_to_is_refused(folder: Path, bundle: Bundle) -> None:
    folder.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match="chmod go-w"):
        unpacked(bundle.digest, folder.parent)
    folder.parent.chmod(0o700)
    assert unpacked(bundle.digest, folder.parent) == folder

"""First-party source as one content-addressed archive, and back to a folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qmodal.exception import DeserializationError, InvalidError, RequestSizeError
from qmodal.source.imports import Places, first_party, locate, located_by_python
from qmodal.source.loader import module_name_of
from qmodal.source.tree import SourceFile, files_of, source_file
from qmodal.source.unpacked_code import check_ours, digests_of, discard, note_digests

MIB = 1024 * 1024
MAX_TOTAL = 64 * MIB
MAX_OTHER_FILE = MIB
MAX_FILES = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The files that a program needs; `entry` is the name of the module to import."""

    entry: str
    files: tuple[SourceFile, ...]

    @property
    def total(self) -> int:
        """Bytes before compression."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An archive and the hex sha256 that names it."""

    digest: str
    content: bytes


def roots_of(entry: Path | None) -> tuple[Path, ...]:
    """Where first-party code is looked for: the file's own folder, then the current one."""
    own = [] if entry is None else [entry.absolute().parent.resolve()]
    return tuple(dict.fromkeys([*own, Path.cwd()]))


def collect(
    entry: Path | None, module: str | None, roots: Sequence[Path], extra: Sequence[str] = ()
) -> Collection:
    """The files that a program (a file, or a module by its dotted name) needs in a container.

    `extra` names further modules that are taken from wherever they are. Files above 1 MiB that are
    no Python are left out with a warning. Raises RequestSizeError above 64 MiB and InvalidError for
    a module that cannot be found.
    """
    roots = [root.resolve() for root in roots]
    start: dict[str, Places] = {}
    if module is not None:
        start |= _module_places(module, roots)
        roots += [place.parent for places in start.values() for place in places]
    start |= {name.partition(".")[0]: _extra_places(name, roots) for name in extra}
    name = module or (module_name_of(entry) if entry is not None else "")
    files = {f"{name}.py": source_file(f"{name}.py", entry)} if entry is not None else {}
    for top, places in first_party(start, entry, roots).items():
        for place in places:
            for file in files_of(top, place):
                files.setdefault(file.name, file)
    return _within_limits(name, sorted(files.values(), key=lambda file: file.name))


def pack(collection: Collection) -> Bundle:
    """The same files give the same bytes, whenever and wherever they were written."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in sorted(collection.files, key=lambda each: each.name):
            member = zipfile.ZipInfo(file.name, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = 0o644 << 16
            archive.writestr(member, file.path.read_bytes())
    content = buffer.getvalue()
    return Bundle(digest=hashlib.sha256(content).hexdigest(), content=content)


def unpacked(digest: str, cache: Path) -> Path | None:
    """The folder of a bundle that is in the cache, so that its bytes need not be fetched."""
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise DeserializationError(f"{digest!r} is not the sha256 of a bundle.")
    check_ours(cache)
    folder = cache / digest
    if not (folder.is_dir() and digests_of(folder).is_file()):
        return None
    touch(folder)
    return folder


def touch(folder: Path) -> None:
    """Note that a bundle's folder is in use."""
    with contextlib.suppress(OSError):  # of another user, or on a disk that cannot be written to
        os.utime(folder)
        os.utime(digests_of(folder))


def unused(cache: Path, *, since: float) -> Iterator[Path]:
    """The folders of bundles that nobody has used since then (as `time.time()` says it).

    Those that a worker was unpacking when it was killed are among them.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(cache):
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < since:
                    yield Path(entry.path)


def unpack(content: bytes, digest: str, cache: Path) -> Path:
    """Extract a bundle to `cache/<digest>`, once, whoever else does the same at the same time.

    Raises DeserializationError for bytes that are not the bundle or that name files outside the
    folder, RequestSizeError for more than 64 MiB.
    """
    folder = unpacked(digest, cache)
    if folder is not None:
        return folder
    if hashlib.sha256(content).hexdigest() != digest:
        raise DeserializationError(f"The bundle {digest} is damaged: its content does not match.")
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    growing = Path(tempfile.mkdtemp(prefix=f".{digest[:12]}-", dir=cache))
    try:
        _extract(content, growing)
        if (cache / digest).is_dir() and not digests_of(cache / digest).is_file():
            discard(cache / digest)  # of nobody knows what
        note_digests(growing, cache / digest)
        return _put_in_place(growing, cache / digest)
    finally:
        shutil.rmtree(growing, ignore_errors=True)


def _module_places(module: str, roots: Sequence[Path]) -> dict[str, Places]:
    top = module.partition(".")[0]
    places = locate(top, roots)
    if not places:
        place = located_by_python(top)
        if place is None:
            raise InvalidError(f"There is no module `{module}` to send to the workers.")
        # An editable install keeps the package in its own project; that folder is its root.
        places = locate(top, (place.parent,))
    return {top: places}


def _extra_places(name: str, roots: Sequence[Path]) -> Places:
    top = name.partition(".")[0]
    places = locate(top, roots)
    if places:
        return places
    place = located_by_python(top)
    if place is None:
        raise InvalidError(f"There is no module `{name}` to add to the source.")
    return (place,)


def _within_limits(entry: str, files: Sequence[SourceFile]) -> Collection:
    fitting = tuple(f for f in files if f.path.suffix == ".py" or f.size <= MAX_OTHER_FILE)
    if left_out := set(files).difference(fitting):
        warnings.warn(_not_sent(left_out), UserWarning, stacklevel=3)
    collection = Collection(entry=entry, files=fitting)
    if collection.total > MAX_TOTAL or len(collection.files) > MAX_FILES:
        raise RequestSizeError(_too_large(collection))
    return collection


def _not_sent(files: Iterable[SourceFile]) -> str:
    return (
        f"Not sent with the program, as files above {MAX_OTHER_FILE / MIB:g} MiB that are no Python: "
        f"{_largest(files)}. Put them where the boxes find them; name them in .gitignore to hear "
        "no more of it."
    )


def _too_large(collection: Collection) -> str:
    return (
        f"The program's own source is {len(collection.files)} files and "
        f"{collection.total / MIB:.1f} MiB; at most {MAX_FILES} files and {MAX_TOTAL // MIB} MiB "
        "are sent. Move what is no source elsewhere or name it in .gitignore. Largest: "
        f"{_largest(collection.files)}."
    )


def _largest(files: Iterable[SourceFile]) -> str:
    largest = sorted(files, key=lambda file: (-file.size, file.name))[:10]
    return ", ".join(f"{file.name} ({file.size / MIB:.1f} MiB)" for file in largest)


def _extract(content: bytes, folder: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members)
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                # A member that claims to be a link becomes a plain file with the link's text.
                # Reading without a size would unpack two gibibytes of a member that claims one byte.
                with archive.open(member) as stream:
                    target.write_bytes(stream.read(member.file_size))
                target.chmod(0o644)  # whatever the umask: nobody else writes there
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DeserializationError(f"The bundle cannot be unpacked: {error}") from error


def _check_members(members: Sequence[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL or len(members) > MAX_FILES:
        raise RequestSizeError(
            f"The bundle would unpack to {len(members)} files and {total / MIB:.1f} MiB; "
            f"at most {MAX_FILES} files and {MAX_TOTAL // MIB} MiB are accepted."
        )
    for name in _unsafe(member.filename for member in members):
        raise DeserializationError(f"The bundle names a file outside its folder: {name!r}.")


def _unsafe(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or name.endswith("/"):
            yield name


def _put_in_place(growing: Path, target: Path) -> Path:
    try:
        growing.rename(target)
    except OSError:
        # Another worker was faster: a folder with files in it is never replaced by a rename.
        if not target.is_dir():
            raise
    return target

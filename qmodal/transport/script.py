"""A Lua script as a command: reads the names of its keys and arguments from the script itself.

A script's head is its interface: `local a, b = unpack(KEYS)` and `local c, d = unpack(ARGV)`. One that takes
thousands of more keys or arguments than it names says `unpack(KEYS, 1, 2)`: Lua unpacks no more than 8000 at once.
`-- include: name, name` inserts `name.lua` of each from `lua/shared`. Scripts are addressed by content (EVALSHA), so two
releases can run side by side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from qmodal.transport.operation import Command

# Scripts lie beside the operations that use them, in a folder for each noun.
_FOLDER = Path(__file__).parents[1] / "store" / "lua"
SHARED = "shared"
_INCLUDE = re.compile(r"^-- include: ([\w, ]+)$", re.MULTILINE)
_NAMES = re.compile(r"^local ([\w, ]+?) = unpack\((KEYS|ARGV)(?:, 1, \d+)?\)$", re.MULTILINE)


class Script:
    """A Lua script, which runs atomically; `command(...)` packs a call of it."""

    __slots__ = ("arguments", "keys", "name", "sha", "text")

    def __init__(self, name: str) -> None:
        text = _places()[name].read_text("utf-8")
        self.name = name
        self.text = _INCLUDE.sub(lambda found: "\n".join(map(_shared, found[1].split(", "))), text)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest().encode()
        names = {kind: tuple(listed.split(", ")) for listed, kind in _NAMES.findall(text)}
        self.keys: tuple[str, ...] = names.get("KEYS", ())
        self.arguments: tuple[str, ...] = names.get("ARGV", ())

    def command(
        self,
        keys: tuple[str, ...],
        arguments: tuple[Any, ...] = (),
        *,
        more_keys: Iterable[str] = (),
        more: Iterable[Any] = (),
    ) -> Command:
        """The command that runs this script; raises TypeError if the names do not match in number."""
        if len(keys) != len(self.keys) or len(arguments) != len(self.arguments):
            raise TypeError(
                f"{self.name}.lua takes keys {self.keys} and arguments {self.arguments}, "
                f"got {len(keys)} and {len(arguments)}"
            )
        keys = (*keys, *more_keys)
        return (b"EVALSHA", self.sha, len(keys), *keys, *arguments, *more)


@cache
def _places(*, shared: bool = False) -> dict[str, Path]:
    """Where each script is (or what scripts share), by its name, which no two of them have."""
    folders = [_FOLDER.joinpath(SHARED)] if shared else _folders(_FOLDER)
    found = [file for folder in folders for file in _files(folder) if file.name.endswith(".lua")]
    return {file.name.removesuffix(".lua"): file for file in found}


def _folders(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_dir() and each.name != SHARED]


def _files(folder: Path) -> Iterator[Path]:
    for each in folder.iterdir():
        yield from _files(each) if each.is_dir() else (each,)


@cache
def _shared(name: str) -> str:
    return _places(shared=True)[name].read_text("utf-8").strip()


@cache
def script(name: str) -> Script:
    """The script of that name, read once a process."""
    return Script(name)


@cache
def known_command() -> Command:
    """The command that asks whether a server knows every script: the reply has a 1 for each that it knows."""
    return (b"SCRIPT", b"EXISTS", *(script(name).sha for name in sorted(_places())))


@cache
def load_commands() -> tuple[Command, ...]:
    """The commands that make every script known to a server."""
    return tuple((b"SCRIPT", b"LOAD", script(name).text) for name in sorted(_places()))

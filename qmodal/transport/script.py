"""A Lua script as a command: reads the names of its keys and arguments from the script itself.

A script's head is its interface: `local a, b = unpack(KEYS)` and `local c, d = unpack(ARGV)`.
`-- include: name, name` inserts `shared/name.lua` of each. Scripts are addressed by content (EVALSHA), so two
releases can run side by side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from qmodal.transport.operation import Command

_INCLUDE = re.compile(r"^-- include: ([\w, ]+)$", re.MULTILINE)
_NAMES = re.compile(r"^local ([\w, ]+?) = unpack\((KEYS|ARGV)\)$", re.MULTILINE)


class Script:
    """One atomic transition; `command(...)` packs a call of it."""

    __slots__ = ("arguments", "keys", "name", "sha", "text")

    def __init__(self, name: str) -> None:
        folder = files("qmodal.store").joinpath("lua")
        text = folder.joinpath(f"{name}.lua").read_text("utf-8")
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
def _shared(name: str) -> str:
    return files("qmodal.store").joinpath(f"lua/shared/{name}.lua").read_text("utf-8").strip()


@cache
def script(name: str) -> Script:
    """The script of that name, read once a process."""
    return Script(name)


@cache
def load_commands() -> tuple[Command, ...]:
    """The commands that make every script known to a server."""
    folder = files("qmodal.store").joinpath("lua")
    names = sorted(f.name[:-4] for f in folder.iterdir() if f.name.endswith(".lua"))
    return tuple((b"SCRIPT", b"LOAD", script(name).text) for name in names)

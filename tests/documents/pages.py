"""The pages of the documentation as tests read them: their fenced blocks, and programs written into files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.\w+)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its text, and the line of its page on which that begins."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that it is, if its first line is a comment with that name."""
        named = _FILE.match(self.text)
        return None if named is None else named[1]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page in these languages, without the indentation that they have in lists."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        indent, language, body = match.groups()
        if language in languages:
            line = text.count("\n", 0, match.start(3)) + 1
            lines = [each.removeprefix(indent) for each in body.splitlines(keepends=True)]
            found.append(Block(page.name, line, language, "".join(lines)))
    return found


def write_files(page: Path, folder: Path) -> list[str]:
    """Write the blocks of a page that are files into a folder; their names."""
    named = [block for block in blocks(page, "python", "toml", "yaml", "sh") if block.file]
    for block in named:
        path = folder / str(block.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    return [str(block.file) for block in named]

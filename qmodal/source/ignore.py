"""The patterns of .gitignore files, read without asking git."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a .gitignore: a pattern for each path part below `folder`, `**` for any number."""

    folder: Path
    pattern: tuple[str, ...]
    takes_back: bool
    folders_only: bool

    def applies_to(self, path: Path, *, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        return _matches(path.relative_to(self.folder).parts, self.pattern)


def is_ignored(path: Path, rules: Sequence[Rule], *, is_folder: bool) -> bool:
    """Whether the last rule that applies ignores the path; rules come from the top folder down."""
    for rule in reversed(rules):
        if rule.applies_to(path, is_folder=is_folder):
            return not rule.takes_back
    return False


def rules_of(folder: Path) -> tuple[Rule, ...]:
    """The rules of one folder's own .gitignore."""
    file = folder / ".gitignore"
    if not file.is_file():
        return ()
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(rule for line in lines if (rule := rule_of(line, folder)) is not None)


def rules_above(folder: Path) -> tuple[Rule, ...]:
    """The rules a folder inherits from its checkout; outside of one, its parent's own rules."""
    above: list[Path] = []
    for parent in (folder, *folder.parents):
        if parent != folder:
            above.insert(0, parent)
        if (parent / ".git").exists():
            return tuple(rule for each in above for rule in rules_of(each))
    return rules_of(folder.parent)


def rule_of(line: str, folder: Path) -> Rule | None:
    """A line's rule, or None for a comment or an empty line."""
    text = line.rstrip()
    if not text or text.startswith("#"):
        return None
    takes_back = text.startswith("!")
    text = text.removeprefix("!").removeprefix("\\")
    parts = text.strip("/").split("/")
    if parts == [""]:
        return None
    if "/" not in text.rstrip("/"):
        parts.insert(0, "**")
    if parts[-1] == "**":
        parts.append("*")
    return Rule(
        folder=folder,
        pattern=tuple(parts),
        takes_back=takes_back,
        folders_only=text.endswith("/"),
    )


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])

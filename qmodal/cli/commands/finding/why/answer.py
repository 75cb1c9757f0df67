"""An answer: one sentence with what to do, and the facts that it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmodal.store.watch.reasons import line_of

WIDTH = 80
# Lines of one fact that are shown; JSON has all of them.
MOST_LINES = 10
_MARGIN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Why something waits, or does not: `kind` as docs/why.md lists them, `facts` by name as text or lines of it."""

    about: str
    kind: str
    text: str
    facts: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    def as_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "about": self.about,
            "reason": self.kind,
            "answer": self.text,
            "facts": {
                name: fact if isinstance(fact, str) else [*fact]
                for name, fact in self.facts.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """As people read it, 80 columns wide; what somebody has written into a name stays on its line."""
        yield from textwrap.wrap(f"{line_of(self.text)}.", WIDTH, break_on_hyphens=False)
        yield ""
        for name, fact in self.facts.items():
            lines = [fact] if isinstance(fact, str) else [*fact]
            title = name
            for line in lines[:MOST_LINES]:
                yield from _indented(title, line)
                title = ""
            if len(lines) > MOST_LINES:
                yield from _indented("", f"and {len(lines) - MOST_LINES} more")


def _indented(title: str, text: str) -> list[str]:
    return textwrap.wrap(
        line_of(text) or "-",
        WIDTH,
        initial_indent=title.ljust(_MARGIN),
        subsequent_indent=" " * _MARGIN,
        break_on_hyphens=False,
    )

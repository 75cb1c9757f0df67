r"""Text of others as a terminal may get it: what would move its cursor, ask it something, or hide what is there is written out.

>>> printable("a\x1b]52;c;bmFzdHk=\x07")
'a\\x1b]52;c;bmFzdHk=\\x07'
"""

from __future__ import annotations

import re

# Controls of C0 and C1, format characters (bidirectional ones, zero-width ones, tags), separators of lines, half characters.
_ODD = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# A colour or a style (SGR); other sequences move the cursor, change the terminal, or have it answer.
_COLOUR = r"\x1b\[[0-9;:]{0,32}m"
_LINE = re.compile(f"[{_ODD}]")
_LINES = re.compile(f"\r\n|(?![\n\t])[{_ODD}]")
_COLOURED_LINES = re.compile(f"{_COLOUR}|{_LINES.pattern}")


def printable(text: str, *, lines: bool = False, colours: bool = False) -> str:
    """The text with everything else escaped than what a terminal shows as it is.

    `lines`: line ends and tabs stay, as in logs and tracebacks; `colours`: so do colours, with `lines` only, as in what
    containers print.
    """
    if text.isprintable():
        return text
    if not lines:
        return _LINE.sub(_escaped, text)
    return (_COLOURED_LINES if colours else _LINES).sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    odd = found[0]
    # A progress bar goes back to the beginning of its line: each of its states gets a line of its own.
    if odd in ("\r", "\r\n"):
        return "\n"
    return odd if len(odd) > 1 else _escaped(found)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()

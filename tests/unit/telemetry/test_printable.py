"""Text of others as a terminal gets it."""

from __future__ import annotations

import pytest

from qmodal.telemetry.printable import printable

# As it comes, as a name, as what a container has printed.
ROWS = {
    "plain": ("naïve 日本 🙂 \u00a0", "naïve 日本 🙂 \u00a0", "naïve 日本 🙂 \u00a0"),
    "a colour": ("\x1b[1;31mred\x1b[0m", "\\x1b[1;31mred\\x1b[0m", "\x1b[1;31mred\x1b[0m"),
    "true colour": (
        "\x1b[38:2::1:2:3mx\x1b[m",
        "\\x1b[38:2::1:2:3mx\\x1b[m",
        "\x1b[38:2::1:2:3mx\x1b[m",
    ),
    "a sequence that clears (CSI)": ("\x1b[2Jx", "\\x1b[2Jx", "\\x1b[2Jx"),
    "one that asks": ("\x1b[6n", "\\x1b[6n", "\\x1b[6n"),
    "keys as modes": ("\x1b[>4;2m", "\\x1b[>4;2m", "\\x1b[>4;2m"),
    "a colour without an end": ("\x1b[31", "\\x1b[31", "\\x1b[31"),
    "a link (OSC 8)": (
        "\x1b]8;;http://x\x1b\\y",
        "\\x1b]8;;http://x\\x1b\\y",
        "\\x1b]8;;http://x\\x1b\\y",
    ),
    "the clipboard (OSC 52)": (
        "\x1b]52;c;eA==\x07",
        "\\x1b]52;c;eA==\\x07",
        "\\x1b]52;c;eA==\\x07",
    ),
    "CSI and OSC as one character (C1)": (
        "\x9b2J\x9d52;c;eA==\x9c",
        "\\x9b2J\\x9d52;c;eA==\\x9c",
        "\\x9b2J\\x9d52;c;eA==\\x9c",
    ),
    "a device string (DCS)": ("\x1bP$q\x1b\\", "\\x1bP$q\\x1b\\", "\\x1bP$q\\x1b\\"),
    "bell": ("\x07", "\\x07", "\\x07"),
    "backspace and delete": ("good\b\x7fbad", "good\\x08\\x7fbad", "good\\x08\\x7fbad"),
    "carriage return": ("good\rbad", "good\\rbad", "good\nbad"),
    "lines": ("a\r\nb\n\tc", "a\\r\\nb\\n\\tc", "a\nb\n\tc"),
    "line separators": (
        "a\u2028b\x0b\x0c\x85",
        "a\\u2028b\\x0b\\x0c\\x85",
        "a\\u2028b\\x0b\\x0c\\x85",
    ),
    "bidirectional": (
        "\u202eexe.\u2066\u061c",
        "\\u202eexe.\\u2066\\u061c",
        "\\u202eexe.\\u2066\\u061c",
    ),
    "zero width": (
        "a\u200bb\u200d\ufeff\u2060",
        "a\\u200bb\\u200d\\ufeff\\u2060",
        "a\\u200bb\\u200d\\ufeff\\u2060",
    ),
    "tags": ("\U000e0041", "\\U000e0041", "\\U000e0041"),
    "no UTF-8": (b"\xff\xfe".decode(errors="surrogateescape"), "\\udcff\\udcfe", "\\udcff\\udcfe"),
    "NUL": ("a\0b", "a\\x00b", "a\\x00b"),
}


@pytest.mark.parametrize(("text", "name", "output"), ROWS.values(), ids=ROWS)
def test_what_a_terminal_would_obey_is_written_out(text: str, name: str, output: str) -> None:
    assert printable(text) == name
    assert printable(text, lines=True, colours=True) == output
    assert "\x1b" not in printable(text, lines=True)


def test_text_that_was_made_printable_stays_as_it_is() -> None:
    for text, *_ in ROWS.values():
        once = printable(text)
        assert printable(once) == once
        assert once.isprintable() or "\u00a0" in once

"""Amounts of memory as people write and read them."""

from __future__ import annotations

import re

from qmodal.exception import InvalidError

_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?b?)", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """The bytes in "24GiB", "512MiB" or "24g"; a number alone is MiB, as in `memory=`, and "24GB" has powers of 1000.

    Raises InvalidError.
    """
    found = _TEXT.fullmatch(text.strip())
    unit = found[2].lower() if found else ""
    if found is None or unit in ("b", "i", "ib"):
        raise InvalidError(f'memory is written as "24GiB", "512MiB" or 512 (MiB), not as {text!r}')
    power = _POWERS[unit[0]] if unit else 2
    base = 1000.0 if unit.endswith("b") and "i" not in unit else 1024.0
    count = round(float(found[1]) * base**power)
    if not 0 < count < 2**63:
        raise InvalidError(f"there is no such amount of memory as {text!r}")
    return count


def size(count: float) -> str:
    """Bytes, in the largest binary unit that fits.

    >>> size(2048)
    '2.0 KiB'
    """
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 2**power:
            return f"{count / 2**power:.1f} {unit}"
    return f"{int(count)} B"

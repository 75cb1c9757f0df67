"""The text of a pool's class parameters as a label: short, printable, and of a bounded number of pools."""

from __future__ import annotations

from collections.abc import Mapping

from qmodal.exception import Error
from qmodal.spec.documents import PoolSpec
from qmodal.spec.parameters import decode
from qmodal.telemetry.printable import printable

# What pools beyond that have together; no parameters look so, as they have an equals sign.
OTHER = "other"
_VALUE_LETTERS, _MOST_LETTERS = 40, 120


def pool_label(spec: PoolSpec) -> str:
    """Such as `foo=hedgehog,bar=7`; empty for a pool without parameters."""
    if not spec.parameters:
        return ""
    try:
        shown = _shown(decode(spec.parameters))
    except (
        Error,
        TypeError,
        ValueError,
    ):  # of a constructor of the class's own: they may be pickled
        _, _, shown = spec.label.partition("(")
        shown = shown.rpartition(")")[0]
    return _cut(shown, _MOST_LETTERS)


def _shown(parameters: Mapping[str, object]) -> str:
    return ",".join(
        f"{name}={_cut(str(value), _VALUE_LETTERS)}" for name, value in parameters.items()
    )


def _cut(text: str, most: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= most else shown[: most - 3] + "..."

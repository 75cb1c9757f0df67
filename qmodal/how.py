"""How a map was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What a map does with its results; `resume` is the key or id of a call to go on with.

    `keep`: the results stay for others to fetch, and the end of this process ends nothing.
    """

    ordered: bool = True
    return_exceptions: bool = False
    keep: bool = False
    resume: str | None = None

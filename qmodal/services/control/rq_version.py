"""Whether the rq of this environment can do what a control process needs of it; without importing rq."""

from __future__ import annotations

import re
from importlib.metadata import version

# It puts a job in line once for its id.
LEAST = (2, 8)


def refusal(found: str = "") -> str:
    """Why no control process can run here, or with the version `found`; empty if one can."""
    found = found or version("rq")
    numbers = tuple(int(each) for each in re.findall(r"\d+", found)[:2])
    if numbers >= LEAST:
        return ""
    return (
        f"schedules and chores need rq 2.8 or newer, and this environment has {found}: run `qmodal control` "
        "in an environment of its own."
    )

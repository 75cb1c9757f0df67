"""The records of a call graph: the inputs of calls, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class InputStatus(IntEnum):
    """What became of an input; what cannot be told is PENDING."""

    PENDING = 0
    SUCCESS = 1
    FAILURE = 2
    TERMINATED = 3
    TIMEOUT = 4
    INIT_FAILURE = 5


@dataclass
class InputInfo:
    """One input in a call graph; `task_id` is its container, "" while it has no outcome."""

    input_id: str
    function_call_id: str
    task_id: str
    status: InputStatus
    function_name: str
    module_name: str
    children: list[InputInfo] = field(default_factory=list)

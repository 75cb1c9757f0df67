"""What a supervisor is asked to run: sent as one JSON line, so that nothing secret is in argv."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPlan:
    """The server, the children and the end of a stack.

    `kept`: the data outlives the stack, so the server is asked to stop and is started again when
    it dies. `grace`: seconds that children get when the client vanishes without a word.
    """

    server: list[str]
    server_log: str
    socket: str
    url: str = field(repr=False)
    key_file: str
    lock: int
    kept: bool
    grace: float
    password: str = field(default="", repr=False)
    children: dict[str, list[str]] = field(default_factory=dict)
    # Folders that are ours alone and go with the stack.
    remove: list[str] = field(default_factory=list)

    def to_line(self) -> bytes:
        """The plan as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> StackPlan:
        """The plan that `to_line` wrote."""
        return cls(**json.loads(line))

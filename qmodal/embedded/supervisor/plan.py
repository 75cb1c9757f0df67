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
    # The gateway's command, and the socket that it inherits; it may wait until the client asks for it.
    gateway: list[str] = field(default_factory=list)
    gateway_socket: int | None = None
    gateway_on_request: bool = False
    # Folders that are ours alone and go with the stack.
    remove: list[str] = field(default_factory=list)

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptors that the supervisor gets from its client, which then lets go of them."""
        return (self.lock,) if self.gateway_socket is None else (self.lock, self.gateway_socket)

    def to_line(self) -> bytes:
        """The plan as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> StackPlan:
        """The plan that `to_line` wrote."""
        return cls(**json.loads(line))

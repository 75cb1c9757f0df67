"""Arguments of failed inputs that are stored apart: kept for a while, so that the inputs can be repeated.

The scripts that end an input keep them, under a bound for each app in each shard.
"""

from __future__ import annotations

from dataclasses import dataclass

from qmodal.store.keys import Keys
from qmodal.transport.operation import Command, Op, ask, ask_one
from qmodal.transport.script import script


@dataclass(frozen=True, slots=True)
class KeptArguments:
    """Operations on arguments that are stored apart."""

    keys: Keys

    def read(self, call: str, index: int) -> Op[list[bytes]]:
        """What is stored for the input, while it is under way and after it has failed: none, one or both."""
        keys = self.keys
        names = (keys.blob(call, index), keys.kept_arguments(call, index))
        replies = yield from ask(*((b"GET", name) for name in names))
        return [each for each in replies if each is not None]

    def drop_command(self, app: str, shard: int) -> Command:
        """Remove what the shard keeps of an app that has stopped: nothing repeats its inputs."""
        keys = self.keys
        return script("drop_arguments").command((keys.arguments(shard, app),), (keys.shard(shard),))

    def drop(self, app: str, shard: int) -> Op[int]:
        """The same; of how many inputs that was."""
        count: int = yield from ask_one(*self.drop_command(app, shard))
        return count

"""The rule of a role: the line of an ACL file, or what follows `ACL SETUSER`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from qmodal.cli.commands.rights.nouns import patterns
from qmodal.cli.commands.rights.roles import ADMIN, ADMIN_COMMANDS, DATA, ROLES, Role
from qmodal.store.keys import Keys

_SIGNS = {"r": "%R~", "w": "%W~", "rw": "~"}


def rule(role: str, keys: Keys) -> str:
    """Keys, channels and commands of the role."""
    if role == ADMIN:
        return f"~{keys.prefix}:* &{keys.prefix}:* {ADMIN_COMMANDS}"
    return " ".join(_parts(ROLES[role], keys))


def line(role: str, user: str, password: str, keys: Keys) -> str:
    """The whole line of an ACL file; it has a digest of the password."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user {user} reset on #{digest} {rule(role, keys)}"


def _parts(role: Role, keys: Keys) -> Iterator[str]:
    of_noun = patterns(keys)
    for noun, access in role.nouns().items():
        yield f"{_SIGNS[access]}{of_noun[noun]}"
    yield from (f"&{channel}" for channel in (keys.wake, keys.nudge("*")))
    yield "-@all"
    yield from (f"+{command}" for command in f"{role.commands} {DATA}".split())
    yield f"(+evalsha ~{keys.prefix}:*)"
    for nouns, commands in role.single.items():
        allowed = [f"+{command}" for command in commands.split()]
        yield f"({' '.join(allowed + [f'~{of_noun[noun]}' for noun in nouns.split(', ')])})"

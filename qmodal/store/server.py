"""Checks of a server: its version, its memory policy, and which signing key it is used with."""

from __future__ import annotations

from qmodal.exception import ConfigurationError
from qmodal.store.keys import Keys
from qmodal.transport.operation import Command, Op, ask, ask_shared
from qmodal.transport.script import script
from qmodal.transport.waiting import LOADING_SECONDS

OLDEST_REDIS = (7, 0)


def check_server(keys: Keys, *, key_id: str, fingerprint: str) -> Op[None]:
    """Raise ConfigurationError for a server that is too old, may evict, or has another key."""
    server, memory, accepted = yield from ask(
        *((b"INFO", b"server"), (b"INFO", b"memory"), (b"HGETALL", keys.signing)),
        patience=2.0,
        loading=LOADING_SECONDS,
        shared=True,  # every first call of a process begins with it
    )
    check_version(server_fields(server))
    policy = server_fields(memory).get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigurationError(
            f"the server's maxmemory-policy is {policy}, which would delete calls when memory is "
            "full; run: CONFIG SET maxmemory-policy noeviction"
        )
    if not accepted:
        (accepted,) = yield from ask_shared(accept_command(keys, key_id, fingerprint))
    known = dict(zip(accepted[::2], accepted[1::2], strict=True))
    if known.get(key_id.encode()) != fingerprint.encode():
        raise ConfigurationError(
            "this Redis is used with another signing key; set QMODAL_SIGNING_KEY (or _FILE) to the "
            "key of the other processes, or QMODAL_PREFIX to keep apart from them."
        )


def accept_command(keys: Keys, key_id: str, fingerprint: str) -> Command:
    """Accept the key if there is none yet; the reply is what is accepted then, as of HGETALL."""
    return script("accept").command((keys.signing,), (key_id, fingerprint))


def check_version(fields: dict[str, str]) -> None:
    """Raise ConfigurationError if the server is older than Redis 7.0 or Valkey 8."""
    text = fields.get("redis_version", "0.0")
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if version < OLDEST_REDIS:
        raise ConfigurationError(
            f"the server is Redis {text}; qmodal needs Redis 7.0 or Valkey 8, or newer"
        )


def server_fields(reply: bytes) -> dict[str, str]:
    """The fields of an INFO reply."""
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)

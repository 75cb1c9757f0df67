"""A server itself: whether it is one to use, its clock, its addresses, and what our user may do there."""

from __future__ import annotations

from qmodal.exception import ConfigurationError
from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.operation import Command, Op, ask, ask_one, ask_shared
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


def server_info(section: str) -> Op[dict[str, str]]:
    """The fields of a section of INFO."""
    return server_fields((yield from ask_one(b"INFO", section)))


def server_ms() -> Op[float]:
    """The server's clock, in ms since 1970; leases end by it."""
    seconds, micros = yield from ask_one(b"TIME")
    return int(seconds) * 1000 + int(micros) / 1000


def ping(*, patience: float) -> Op[None]:
    """Ask the server for a sign of life, for so many seconds if it cannot be reached."""
    yield from ask((b"PING",), patience=patience)


def accepted_keys(keys: Keys) -> Op[dict[str, str]]:
    """The fingerprints of the signing keys that the server is used with, by the keys' ids."""
    reply = yield from ask_one(b"HGETALL", keys.signing)
    return {
        key_id.decode(errors="replace"): fingerprint.decode(errors="replace")
        for key_id, fingerprint in reading.pairs(reply)
    }


def listens_on() -> Op[tuple[int, list[str]]]:
    """The TCP port that the server listens on (0: none), and the addresses."""
    port, addresses = yield from ask((b"CONFIG", b"GET", b"port"), (b"CONFIG", b"GET", b"bind"))
    return int(port[1]), addresses[1].decode().split()


def refused_commands(keys: Keys) -> Op[tuple[str, list[str]]]:
    """The user that we are, and which commands it may not send although they are needed."""
    user = (yield from ask_one(b"ACL", b"WHOAMI")).decode()
    needed = _needed(keys.prefix)
    replies = yield from ask(*((b"ACL", b"DRYRUN", user, *command) for command in needed))
    tried = zip(needed, replies, strict=True)
    return user, [command[0] for command, reply in tried if reply not in (b"OK", "OK")]


def _needed(prefix: str) -> list[tuple[str, ...]]:
    """One example of each kind of command that clients, workers and autoscalers send."""
    key, channel = f"{prefix}:{{s00}}:doctor", f"{prefix}:wake"
    return [
        ("XADD", key, "*", "f", "v"),
        ("XREAD", "STREAMS", key, "0"),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">"),
        ("XACK", key, "g", "0-1"),
        ("XPENDING", key, "g"),
        ("XINFO", "CONSUMERS", key, "g"),
        ("HSET", key, "f", "v"),
        ("ZADD", key, "0", "m"),
        ("SET", key, "v"),
        ("PEXPIRE", key, "1"),
        ("UNLINK", key),
        ("EVALSHA", "0" * 40, "1", key),
        ("SCRIPT", "LOAD", "return 1"),
        ("PUBLISH", channel, ""),
        ("SUBSCRIBE", channel),
        ("CLIENT", "ID"),
        ("CLIENT", "LIST", "ID", "0"),
        ("CLIENT", "KILL", "ID", "0"),
        ("INFO", "server"),
        ("TIME",),
    ]

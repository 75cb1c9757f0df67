"""What `qmodal doctor` looks at on a server: each check asks, and says what it found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qmodal.exception import ConfigurationError
from qmodal.store.server import (
    accepted_keys,
    check_version,
    refused_commands,
    server_info,
    server_ms,
)
from qmodal.transport.operation import Op

if TYPE_CHECKING:
    from qmodal.client.client import Client

SKEW_WARN, SKEW_FAIL = 1.0, 30.0
State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found, and what to do about it."""

    what: str
    state: State
    found: str
    advice: str = ""


Check = Callable[["Client"], Op[Finding]]


def version(_client: Client) -> Op[Finding]:
    """The server's version."""
    fields = yield from server_info("server")
    name = fields.get("server_name", "redis")
    found = f"{name} {fields.get(f'{name}_version', fields.get('redis_version', '?'))}"
    try:
        check_version(fields)
    except ConfigurationError:
        advice = "install Redis 7.0 or Valkey 8, or newer"
        return Finding(what="server", state="fail", found=found, advice=advice)
    return Finding(what="server", state="ok", found=found)


def persistence(_client: Client) -> Op[Finding]:
    """Whether calls survive the server's own restart."""
    fields = yield from server_info("persistence")
    broken = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if fields.get(name, "ok") != "ok"
    ]
    if broken:
        return Finding(
            what="persistence",
            state="fail",
            found=f"{', '.join(broken)}: not ok",
            advice="the server refuses calls then; look at its log and at the space on its disk",
        )
    if fields.get("aof_enabled") == "1":
        return Finding(what="persistence", state="ok", found="append-only file")
    return Finding(
        what="persistence",
        state="warn",
        found="no append-only file",
        advice="calls since the last snapshot are lost when the server ends: CONFIG SET "
        "appendonly yes",
    )


def memory(_client: Client) -> Op[Finding]:
    """What the server does when its memory is full."""
    fields = yield from server_info("memory")
    policy = fields.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return Finding(
            what="memory",
            state="fail",
            found=f"maxmemory-policy {policy}",
            advice="calls would be deleted when memory is full: CONFIG SET maxmemory-policy "
            "noeviction",
        )
    used, limit = int(fields.get("used_memory", 0)), int(fields.get("maxmemory", 0))
    if not limit:
        return Finding(what="memory", state="ok", found="noeviction, no limit")
    share = used / limit
    return Finding(
        what="memory",
        state="warn" if share > 0.8 else "ok",
        found=f"noeviction, {share:.0%} of maxmemory used",
        advice="calls are refused at 100 %; raise maxmemory" if share > 0.8 else "",
    )


def signing(client: Client) -> Op[Finding]:
    """Whether the server is used with our key."""
    accepted = yield from accepted_keys(client.keys)
    signer = client.signer
    key_id = signer.key_id.hex()
    if not accepted:
        found = f"{key_id}, the first on this server"
        return Finding(what="signing key", state="ok", found=found)
    if accepted.get(key_id) == signer.fingerprint:
        return Finding(what="signing key", state="ok", found=f"{key_id}, accepted")
    return Finding(
        what="signing key",
        state="fail",
        found=f"{key_id}, but the server is used with {', '.join(accepted)}",
        advice="set QMODAL_SIGNING_KEY (or _FILE) to the other processes' key; `qmodal key show` "
        "prints it there",
    )


def publishing(client: Client) -> Op[Finding]:
    """Who may publish versions that this process runs or calls, and whether it may."""
    yield from ()
    publisher = client.publisher
    if not publisher.is_separate:
        found = "none set: whoever has the signing key may publish"
        return Finding(what="publishing key", state="ok", found=found)
    accepted = ", ".join(sorted(key.hex()[:8] for key in publisher.accepted.values()))
    if publisher.may_publish:
        found = f"{accepted} accepted, and this process may publish"
        return Finding(what="publishing key", state="ok", found=found)
    own = publisher.public
    return Finding(
        what="publishing key",
        state="ok" if own is None else "fail",
        found=f"{accepted} accepted, "
        + ("and this process may not publish" if own is None else f"but its own is {own.hex()}"),
        advice="" if own is None else "add it to QMODAL_PUBLISHERS everywhere, or unset it",
    )


def clock(_client: Client) -> Op[Finding]:
    """How far this machine's clock is from the server's; half the round trip is taken off."""
    sent = time.time()
    there = (yield from server_ms()) / 1000
    received = time.time()
    skew = there - (sent + received) / 2
    size = max(0.0, abs(skew) - (received - sent) / 2)
    state: State = "ok" if size < SKEW_WARN else "warn" if size < SKEW_FAIL else "fail"
    return Finding(
        what="clock",
        state=state,
        found=f"{skew:+.3f} s from this machine's",
        advice="" if state == "ok" else "let NTP set the clocks of both machines",
    )


def access(client: Client) -> Op[Finding]:
    """Whether the ACL lets us do what we need, asked with a dry run."""
    user, refused = yield from refused_commands(client.keys)
    if refused:
        return Finding(
            what="ACL",
            state="fail",
            found=f"user {user} may not: {', '.join(refused)}",
            advice=f"ACL SETUSER {user} ~{client.keys.prefix}:* &{client.keys.prefix}:* "
            "+@all -@dangerous +info +client +script",
        )
    return Finding(what="ACL", state="ok", found=f"user {user}")


def workers(client: Client) -> Op[Finding]:
    """Whether anybody runs containers."""
    leases = yield from client.fleet.workers()
    now = yield from server_ms()
    alive = [worker for worker, ends in leases.items() if ends > now]
    if not alive:
        return Finding(
            what="workers",
            state="warn",
            found="none",
            advice="calls wait: start `qmodal worker` on the machines that shall run them",
        )
    return Finding(what="workers", state="ok", found=f"{len(alive)} with a lease")


def autoscaler(client: Client) -> Op[Finding]:
    """Whether anybody decides about containers."""
    leader = yield from client.fleet.leader()
    if leader is None:
        return Finding(
            what="autoscaler",
            state="warn",
            found="none leads",
            advice="no containers start or end: start `qmodal autoscaler` on some machine",
        )
    return Finding(what="autoscaler", state="ok", found=f"{leader} leads")


ON_SERVER: dict[str, Check] = {
    "server": version,
    "persistence": persistence,
    "memory": memory,
    "signing key": signing,
    "publishing key": publishing,
    "clock": clock,
    "ACL": access,
    "workers": workers,
    "autoscaler": autoscaler,
}

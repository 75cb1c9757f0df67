"""The roles: which keys, commands and channels each process uses, as its part in the code has them.

The tables say for each noun whether its keys are read (`r`), written (`w`) or both. Scripts name keys that they only
read like those that they write, so EVALSHA is allowed for every key with the prefix; what a script does is checked
command by command, as if the user had sent it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# "r", "w" or "rw" by the nouns that it is for, with commas between them.
_Access = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one kind of process may do.

    `single` are commands that it may use on a noun's keys beside its access; `commands` are those that have no key.
    """

    purpose: str
    access: _Access
    single: Mapping[str, str]
    commands: str

    def nouns(self) -> dict[str, str]:
        """The access to each noun by itself."""
        return {noun: access for names, access in self.access.items() for noun in names.split(", ")}


# Commands on keys: whether one is allowed for a key follows from the key's access.
DATA = (
    "exists ttl pttl type expire pexpire pexpireat persist del unlink copy rename memory|usage "
    "get mget set setex strlen incr "
    "hget hmget hgetall hexists hlen hstrlen hrandfield hscan hset hsetnx hincrby hdel "
    "llen lindex lrange lpos lpush rpush lpop blpop blmpop lrem "
    "smembers scard sismember sadd srem "
    "zadd zcard zrange zrangebyscore zrevrange zscore zscan zrem zremrangebyscore "
    "xadd xlen xrange xrevrange xread xdel xtrim xack xpending xreadgroup xsetid "
    "xgroup|create xgroup|delconsumer xinfo|stream xinfo|groups xinfo|consumers "
    "multi exec"
)
_ALL = "ping auth hello select time info publish script|load script|exists client|setname client|setinfo client|id"

_CALLING: _Access = {
    "pools, hints, active, calls, replies, told": "rw",
    "app, versions, app routes, apps, stopped": "r",
    "workers, worker, containers, leader, line, reasons, signing, gateways, gateway": "r",
}
_PRODUCING: _Access = _CALLING | {"objects, writers, names": "rw"}
# Of inputs that end without a container.
_ENDING: _Access = {"dead, arguments, failed, failing, counted, series, statistics": "rw"}

ROLES = {
    "producer": Role(
        purpose="a program that calls what is deployed, and uses dictionaries and queues",
        access=_PRODUCING,
        single={},
        commands=_ALL,
    ),
    "worker": Role(
        purpose="a worker and its containers, which call and use objects, too",
        access=_PRODUCING
        | _ENDING
        | {
            "inboxes, logs, workers, worker, containers, secrets used": "rw",
            "app parts, assigned, code, secrets": "r",
        },
        single={"code": "expire", "worker, worker parts": "unlink"},
        commands=f"{_ALL} subscribe client|list client|kill",
    ),
    "autoscaler": Role(
        purpose="an autoscaler, which assigns containers, gives up lost boxes and stops apps whose clients are gone",
        access=_CALLING
        | _ENDING
        | {
            "workers, worker, worker parts, leader, epoch, line, reasons, shortage": "rw",
            "app parts, routes, code": "r",
            "stopped": "rw",
        },
        single={
            "app": "hset expire",
            "app parts": "unlink",
            "apps": "hdel",
            "routes": "unlink",
            "code": "expire srem",
        },
        commands=f"{_ALL} subscribe",
    ),
    "web": Role(
        purpose="a gateway",
        access=_CALLING | {"inboxes, gateways, gateway": "rw", "routes, tokens": "r"},
        single={},
        commands=_ALL,
    ),
    "control": Role(
        purpose="a control process, which starts the calls of schedules and does chores",
        access=_CALLING
        | _ENDING
        | {
            "schedules, ticker, chores, usage, jobs": "rw",
            "app parts, worker parts, code": "r",
        },
        single={
            "app": "hdel",
            "app parts": "unlink pexpire",
            "worker parts": "pexpire",
            "code": "expire srem",
        },
        # What rq sends beside what we do.
        commands=f"{_ALL} scan client|list client|info watch unwatch discard blmove lmove zcount zremrangebyrank hincrbyfloat",
    ),
    "deployer": Role(
        purpose="a program that runs or deploys apps, stops them, and stores secrets",
        access=_PRODUCING
        | {
            "app, app parts, apps, stopped, routes, code, signing, secrets": "rw",
            "secrets used, dead, failed, failing, series, statistics, usage": "r",
        },
        single={},
        commands=_ALL,
    ),
}
ADMIN = "admin"
ADMIN_COMMANDS = "+@all -@dangerous +info +client +script +config|get +acl|whoami +acl|dryrun"
ADMIN_PURPOSE = "a person who uses all commands of `qmodal`"

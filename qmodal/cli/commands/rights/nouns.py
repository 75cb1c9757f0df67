"""What is kept in Redis, by the names that roles use for it: a pattern of an ACL for the keys of each noun."""

from __future__ import annotations

import re
from collections.abc import Mapping

from qmodal.store.keys import Keys

# Ids of a fixed length keep a record apart from its parts, which have longer names: in patterns there is no "not".
_APP = "ap-" + "?" * 22
_WORKER = "wk-" + "?" * 10
_POOL = "00" * 16
_ID = "00-00*"  # where ids have their shard


def patterns(keys: Keys) -> Mapping[str, str]:
    """The pattern of each noun's keys under this prefix."""
    return {
        **{name: _of_all_shards(each) for name, each in _sharded(keys).items()},
        **_of_apps(keys),
        **_of_fleet(keys),
    }


def _of_all_shards(name: str) -> str:
    return re.sub(r"\{s\d\d\}", "{s[0-9][0-9]}", name).replace(_POOL, "*").replace(_ID, "*")


def _sharded(keys: Keys) -> dict[str, str]:
    return {
        "pools": keys.pool(_POOL),  # and their streams: the pattern has a * for the id
        "hints": keys.wake_marker(_POOL),
        "active": keys.active(0),
        "dead": keys.dead(0),
        "calls": keys.call(_ID),
        "replies": keys.replies(_ID, "*"),
        "arguments": keys.arguments(0, "*"),
        "inboxes": keys.inbox("00*").replace("00*", "*"),
        "objects": keys.object(_ID),
        "writers": keys.wrote(_ID, "*"),
    }


def _of_apps(keys: Keys) -> dict[str, str]:
    return {
        "app": keys.app(_APP),
        "app parts": keys.app(_APP) + ":*",
        "versions": keys.app(_APP) + ":version:*",
        "clients": keys.client(_APP),
        "settings": keys.settings(_APP),
        "schedules": keys.schedules(_APP),
        "app routes": keys.routes(_APP),
        "logs": keys.logs(_APP),
        "apps": keys.apps,
        "stopped": keys.stopped("*", "*"),
        "routes": keys.route + "*",
        "code": keys.code("*"),
        "secrets": keys.secrets,
        "secrets used": keys.secrets_used,
        "failed": keys.failed("*", "*"),
        "failing": keys.failing,
    }


def _of_fleet(keys: Keys) -> dict[str, str]:
    return {
        "names": keys.names("*"),
        "workers": keys.workers,
        "worker": keys.worker(_WORKER),
        "assigned": keys.assigned(_WORKER),
        "containers": keys.containers(_WORKER),
        "worker parts": keys.worker(_WORKER) + ":*",
        "told": keys.told("*"),
        "leader": keys.leader,
        "epoch": keys.epoch,
        "line": keys.line,
        "reasons": keys.reasons,
        "shortage": keys.shortage,
        "signing": keys.signing,
        "series": keys.statistics_index,
        "statistics": keys.statistics("*"),
        "usage": keys.usage("*"),
        "counted": keys.counted("*"),
        "gateways": keys.gateways,
        "gateway": keys.gateway("*"),
        "tokens": keys.tokens,
        "ticker": keys.ticker,
        "chores": keys.chores,
        "jobs": f"{keys.rq}*",
    }

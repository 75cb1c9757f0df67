"""Every key and channel in Redis, spelled here and nowhere else.

`{sNN}` is the shard tag: whatever one script touches shares it, so scripts stay legal on a
cluster. `{fleet}` is the tag of boxes, apps and the leader.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from qmodal.wire.ids import shard_of

GROUP = b"containers"
Lane = Literal[1, 2]  # the stream `inputs`, or `again`
# Of rq, which clears its registries every minute as long as a control process runs.
_OF_RQ = (
    "queues",
    *(
        f"{kind}:{queue}"
        for kind in ("finished", "failed", "workers")
        for queue in ("schedules", "chores")
    ),
)
# Names of keys that live on without a TTL while nothing runs; every other key must expire or be
# deleted.
PERMANENT = ("apps", "signing", "workers", "epoch", "dead", "tokens", "secrets", *_OF_RQ)


class PoolKeys(NamedTuple):
    """Names of the pool's keys that calls use."""

    pool: str
    inputs: str
    again: str
    active: str
    wake_marker: str


@lru_cache(maxsize=4096)  # asked for several times a call, always for the same few pools
def _of_pool(prefix: str, pool: str) -> PoolKeys:
    shard = f"{prefix}:{{s{shard_of(pool):02d}}}:"
    key = f"{shard}pool:{pool}"
    return PoolKeys(key, f"{key}:inputs", f"{key}:again", f"{shard}active", f"{shard}wake:{pool}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys under one prefix; each method says type, lifetime and who deletes."""

    prefix: str = "qmodal"

    def shard(self, shard: int) -> str:
        """The start of all keys of a shard."""
        return f"{self.prefix}:{{s{shard:02d}}}:"

    def of_pool(self, pool: str) -> PoolKeys:
        """The names for a pool's calls, together."""
        return _of_pool(self.prefix, pool)

    def pool(self, pool: str) -> str:
        """Hash: spec, counters, learned times. No TTL while active, then 30 days (**leave**)."""
        return _of_pool(self.prefix, pool).pool

    def inputs(self, pool: str) -> str:
        """Stream + group: submitted inputs. Deleted by **leave** when there is nothing left."""
        return _of_pool(self.prefix, pool).inputs

    def again(self, pool: str) -> str:
        """Stream + group: inputs that were given back or retried; read before `inputs`."""
        return _of_pool(self.prefix, pool).again

    def delayed(self, pool: str) -> str:
        """Zset by due time in server ms: retries that wait for **promote**."""
        return f"{_of_pool(self.prefix, pool).pool}:delayed"

    def wake_marker(self, pool: str) -> str:
        """String, 50 ms: a wake-up was published just now."""
        return _of_pool(self.prefix, pool).wake_marker

    def active(self, shard: int) -> str:
        """Zset of pool ids: exactly the pools of the shard whose streams and groups exist."""
        return f"{self.shard(shard)}active"

    def dead(self, shard: int) -> str:
        """Stream, capped: entries that could not be processed; until a person removes them."""
        return f"{self.shard(shard)}dead"

    def calls(self, shard: int) -> str:
        """The start of a shard's call keys; scripts add the call id of a foreign entry to it."""
        return f"{self.shard(shard)}call:"

    def call(self, call: str) -> str:
        """Hash: one call's record. A TTL if and only if nothing of it is in flight."""
        return f"{self.prefix}:{{s{call[3:5]}}}:call:{call}"

    def outputs(self, call: str) -> str:
        """Stream: an entry per settled input. Lives as its call; deleted on delivery."""
        return f"{self.call(call)}:outputs"

    def replies(self, call: str, reply_to: str) -> str:
        """Stream, capped, 60 s, renewed while somebody waits: outcomes of calls that one reader waits for."""
        return f"{self.prefix}:{{s{call[3:5]}}}:replies:{reply_to}"

    def moved(self, call: str) -> str:
        """Set: ids of the call's entries in `again`; one in `inputs` may have the same id."""
        return f"{self.call(call)}:moved"

    def children(self, call: str) -> str:
        """Stream, capped: index -> calls that this input made, and how delivered ones ended. 7 days."""
        return f"{self.call(call)}:children"

    def blob(self, call: str, index: int) -> str:
        """String: an argument payload above 32 KiB. One hour until submit persists it."""
        return f"{self.call(call)}:blob:{index}"

    def kept_arguments(self, call: str, index: int) -> str:
        """String: such a payload of an input that has failed. 7 days, of a dead letter 30, or until newer ones need the room."""
        return f"{self.call(call)}:failed:{index}"

    def arguments(self, shard: int, app_id: str) -> str:
        """Zset: the shard's `kept_arguments` of an app, by the bytes kept before each. 30 days after the last one."""
        return f"{self.shard(shard)}arguments:{app_id}"

    def result_blob(self, call: str, index: int) -> str:
        """String: an outcome above 1 MiB; lives as long as its call's result."""
        return f"{self.call(call)}:result:{index}"

    def more(self, call: str) -> str:
        """List, 10 s: the reader of a generator has made room for whoever waits to produce."""
        return f"{self.call(call)}:more"

    def item_blob(self, call: str, index: int, number: int) -> str:
        """String, 1 h: a generator's item above 1 MiB; deleted when it was read."""
        return f"{self.call(call)}:item:{index}:{number}"

    def inbox(self, inbox: str) -> str:
        """Stream, capped, 15 s, renewed by its reader: messages of requests; what was read is removed.

        Names begin with two digits of a shard, so that inboxes are spread over a cluster.
        """
        return f"{self.prefix}:{{s{inbox[:2]}}}:inbox:{inbox}"

    def names(self, kind: str) -> str:
        """Hash: `<environment>/<name>` -> signed record of the object of that kind. Each until it is deleted."""
        return self.fleet(f"names:{kind}")

    def object(self, object_id: str) -> str:
        """Hash: an object's signed record; of a queue its partitions, too. Until it is deleted.

        Of an ephemeral one 120 s, renewed by its owner; of one without a name yet 60 s.
        """
        return f"{self.prefix}:{{s{object_id[3:5]}}}:object:{object_id}"

    def entries(self, object_id: str) -> str:
        """Hash: key -> signed value of a dictionary. 7 days after the last use, or as an ephemeral object."""
        return f"{self.object(object_id)}:entries"

    def used(self, object_id: str) -> str:
        """Zset by hour since 1970: when each key was used last. As the entries."""
        return f"{self.object(object_id)}:used"

    def items(self, object_id: str, partition: str) -> str:
        """List: signed items of a queue's partition. At most 24 h after the last put."""
        return f"{self.object(object_id)}:items:{partition}"

    def gone(self, object_id: str) -> str:
        """List, 10 s: the queue was deleted, for those that wait for its items."""
        return f"{self.object(object_id)}:gone"

    def wrote(self, object_id: str, writer: str) -> str:
        """String, 10 min after the write, or 20 after the first: the number of the writer's last write on the shard."""
        return f"{self.prefix}:{{s{object_id[3:5]}}}:wrote:{writer}"

    def fleet(self, name: str) -> str:
        """The start of a key that concerns the whole installation."""
        return f"{self.prefix}:{{fleet}}:{name}"

    @property
    def workers(self) -> str:
        """Zset by lease end in server ms: the boxes. Removed by **sweep** or on a clean stop."""
        return self.fleet("workers")

    def worker(self, worker: str) -> str:
        """Hash: what a box is. Deleted with the box."""
        return self.fleet(f"worker:{worker}")

    def assigned(self, worker: str) -> str:
        """Hash: container id -> pool id that the box should run. Deleted with the box."""
        return self.fleet(f"worker:{worker}:assigned")

    def containers(self, worker: str) -> str:
        """Hash: container id -> what it is and does, as its worker reports it."""
        return self.fleet(f"worker:{worker}:containers")

    def told(self, token: str) -> str:
        """List, 10 s: an element for each worker that has heard what a cancel told it."""
        return self.fleet(f"told:{token}")

    @property
    def leader(self) -> str:
        """String, 5 s: id of the leading autoscaler."""
        return self.fleet("leader")

    @property
    def line(self) -> str:
        """String, 5 s: the pools that wait for room, as the leader says every second while there are any."""
        return self.fleet("line")

    @property
    def shortage(self) -> str:
        """String, as long as the operator says: "the command that adds boxes has run"."""
        return self.fleet("shortage")

    @property
    def reasons(self) -> str:
        """String, 5 s: why pools do not get the containers that they want, as the leader says every second."""
        return self.fleet("reasons")

    @property
    def epoch(self) -> str:
        """String: number of leaderships so far; an assignment of an older one is refused."""
        return self.fleet("epoch")

    @property
    def signing(self) -> str:
        """Hash: key id -> fingerprint of each accepted signing key."""
        return self.fleet("signing")

    @property
    def apps(self) -> str:
        """Hash: `<environment>/<name>` -> app id of deployed apps."""
        return self.fleet("apps")

    def stopped(self, environment: str, name: str) -> str:
        """String, 7 days: id of the app of that name that was stopped last."""
        return self.fleet(f"stopped:{environment}/{name}")

    def client(self, app_id: str) -> str:
        """String, 30 s: the client of a detached app is still there."""
        return self.fleet(f"app:{app_id}:client")

    def app(self, app_id: str) -> str:
        """Hash: name, environment, state, versions, tags. No TTL while deployed; 7 days once stopped.

        30 s after the last heartbeat if ephemeral, 24 h if detached.
        """
        return self.fleet(f"app:{app_id}")

    def settings(self, app_id: str) -> str:
        """Hash: pool id -> autoscaler overrides; deleted by redeploy and stop."""
        return self.fleet(f"app:{app_id}:settings")

    def version(self, app_id: str, number: int) -> str:
        """String: one signed version of an app. Goes on stop, else lives as its app."""
        return self.fleet(f"app:{app_id}:version:{number}")

    def code(self, digest: str) -> str:
        """String: a source bundle by its SHA-256; 30 days after its last use, if `code_apps` is empty."""
        return self.fleet(f"code:{digest}")

    def code_apps(self, digest: str) -> str:
        """Set: ids of deployed apps that have a version with that bundle; each leaves by its stop."""
        return self.fleet(f"code:{digest}:apps")

    def logs(self, app_id: str) -> str:
        """Stream, capped, 7 days: what the app's containers printed."""
        return self.fleet(f"app:{app_id}:logs")

    def failed(self, app_id: str, function: str) -> str:
        """Stream, capped, 7 days after the last one: notes of the function's inputs that have failed."""
        return self.fleet(f"failed:{app_id}:{function}")

    @property
    def failing(self) -> str:
        """Zset by time of the last note in ms: `<app id>/<function>` of those that have notes. 7 days."""
        return self.fleet("failing")

    @property
    def statistics_index(self) -> str:
        """Zset by server ms of the last change: names of functions that have statistics. 30 days after the last change."""
        return self.fleet("stats")

    def statistics(self, series: str) -> str:
        """Hash: what was counted of a function (`<environment>/<app>/<function>`). 30 days after its last change."""
        return self.fleet(f"stats:{series}")

    def usage(self, series: str) -> str:
        """Stream, capped: the function's statistics at the beginning of each day. 92 days after the last one."""
        return self.fleet(f"usage:{series}")

    def counted(self, counter: str) -> str:
        """String, 1 day: the number of the last batch that this counter has added to statistics."""
        return self.fleet(f"counted:{counter}")

    @property
    def route(self) -> str:
        """The start of strings, `<rank>:<kind>:<name>` -> the signed route. Each lives as its app, and goes on stop."""
        return self.fleet("route:")

    def routes(self, app_id: str) -> str:
        """Hash: what each of the app's routes holds, by its key behind `route`. Lives as the app, goes on stop."""
        return self.fleet(f"app:{app_id}:routes")

    def schedules(self, app_id: str) -> str:
        """Hash: what was noted of the app's schedules: their last runs, and which are paused. Goes on stop."""
        return self.fleet(f"app:{app_id}:schedules")

    @property
    def ticker(self) -> str:
        """String, 1.5 s: the control process that looks for due slots first."""
        return self.fleet("ticker")

    @property
    def chores(self) -> str:
        """Hash: name -> how the chore went last. 30 days after the last one."""
        return self.fleet("chores")

    @property
    def rq(self) -> str:
        """The start of the keys of rq, which the control plane runs its jobs with."""
        return f"{self.prefix}:{{rq}}"

    @property
    def gateways(self) -> str:
        """Zset by start in ms: ids of gateways. Ends with the lease of the last one."""
        return self.fleet("gateways")

    def gateway(self, gateway: str) -> str:
        """String, 10 s, renewed by the gateway: its base URL, signed."""
        return self.fleet(f"gateway:{gateway}")

    @property
    def tokens(self) -> str:
        """Hash: key of a token -> the signed digest of its secret. Until each is revoked."""
        return self.fleet("tokens")

    @property
    def secrets(self) -> str:
        """Hash: `<environment>/<name>` -> the signed record of a secret, its values sealed. Until each is deleted."""
        return self.fleet("secrets")

    @property
    def secrets_used(self) -> str:
        """Hash: `<environment>/<name>` -> µs since 1970 of the last start with that secret. 30 days after the last one."""
        return self.fleet("secrets:used")

    @property
    def wake(self) -> str:
        """Channel: ids of pools that need a look (`+`: inputs came); a hint, never the truth."""
        return f"{self.prefix}:wake"

    def nudge(self, worker: str) -> str:
        """Channel: hints to one worker: assignments changed, or an input was cancelled."""
        return f"{self.prefix}:worker:{worker}"

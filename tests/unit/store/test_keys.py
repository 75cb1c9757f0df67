"""Keys: one shard tag for all that a script touches, and ids that spread and do not collide."""

from __future__ import annotations

import re
from collections import Counter

from qmodal.store.keys import Keys
from qmodal.wire.ids import SHARDS, pool_id, shard_of

KEYS = Keys("p")
POOL = pool_id("ap-1", "f", b"")
CALL = f"fc-{shard_of(POOL):02d}aaaaaaaaaaaaaaaaaaaa"


def tag(key: str) -> str:
    """What Redis Cluster hashes of a key."""
    found = re.search(r"\{([^}]+)\}", key)
    assert found is not None
    return found[1]


def test_pool_and_call_keys_of_one_shard_share_its_tag() -> None:
    shard = shard_of(POOL)
    names = [
        *(KEYS.pool(POOL), KEYS.inputs(POOL), KEYS.again(POOL), KEYS.delayed(POOL)),
        *(KEYS.wake_marker(POOL), KEYS.active(shard), KEYS.dead(shard), KEYS.calls(shard)),
        *(KEYS.call(CALL), KEYS.outputs(CALL), KEYS.moved(CALL)),
        *(KEYS.blob(CALL, 0), KEYS.result_blob(CALL, 0)),
        *(KEYS.more(CALL), KEYS.item_blob(CALL, 0, 0)),
    ]
    assert {tag(name) for name in names} == {f"s{shard:02d}"}
    assert len(set(names)) == len(names)


def test_what_concerns_the_installation_shares_another_tag() -> None:
    names = [
        *(KEYS.workers, KEYS.worker("wk-1"), KEYS.assigned("wk-1"), KEYS.containers("wk-1")),
        *(KEYS.leader, KEYS.epoch, KEYS.signing, KEYS.apps, KEYS.app("ap-1")),
        *(KEYS.settings("ap-1"), KEYS.version("ap-1", 1), KEYS.code("ab"), KEYS.logs("ap-1")),
        *(KEYS.code_apps("ab"), KEYS.route, KEYS.routes("ap-1")),
        *(KEYS.gateways, KEYS.gateway("gw-1")),
    ]
    assert {tag(name) for name in names} == {"fleet"}
    assert len(set(names)) == len(names)


def test_scripts_find_a_calls_keys_by_its_id() -> None:
    """They spell the keys of an entry's call themselves, from the shard's start."""
    start = KEYS.calls(shard_of(POOL)) + CALL
    assert KEYS.call(CALL) == start
    assert KEYS.outputs(CALL) == start + ":outputs"
    assert KEYS.moved(CALL) == start + ":moved"
    assert KEYS.blob(CALL, 7) == start + ":blob:7"


def test_a_pool_is_the_same_for_the_same_values_only() -> None:
    assert pool_id("ap-1", "f", b"", b"") == POOL
    # Without the lengths the next four would be one pool.
    parts = [("a", "bc", b"d", b""), ("ab", "c", b"d", b""), ("a", "b", b"cd", b"")]
    parts.append(("a", "bc", b"", b"d"))
    assert len({pool_id(*part) for part in parts}) == 4


def test_pools_spread_over_all_shards() -> None:
    spread = Counter(shard_of(pool_id("ap", f"f{n}", b"")) for n in range(6400))
    assert set(spread) == set(range(SHARDS))
    assert max(spread.values()) < 200


def test_prefixes_keep_installations_apart() -> None:
    assert Keys("a").pool(POOL) != Keys("b").pool(POOL)
    assert Keys("a").wake != Keys("b").wake

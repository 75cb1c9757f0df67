"""Steps of the random walk that make calls: inputs alone, in packs, and both at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qmodal.store.entries import Submission
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import new_call_id, shard_of
from tests.model.model import Part, WalkCall

if TYPE_CHECKING:
    from tests.model.walk import Walk

TTL = 600_000
MOST = 6


def submit(walk: Walk, pool: str) -> None:
    """A new call: mostly one input, sometimes more than the scripts treat in one run."""
    if walk.pools[pool].inflight() > 300:
        return
    kind = walk.random.choices(("none", "one", "pack", "mixed", "many"), (2, 50, 22, 25, 1))[0]
    sizes = {
        "none": [],
        "one": [1],
        "pack": [walk.random.randint(2, MOST)],
        "mixed": mixed(walk),
        "many": [1] * 130,
    }[kind]
    call = new_call_id(shard_of(pool))
    is_open = walk.random.random() < 0.2
    walk.calls[call] = WalkCall(pool, None if is_open else sum(sizes))
    _append(walk, call, sizes)


def mixed(walk: Walk) -> list[int]:
    """Sizes of a few entries, about half of them single inputs."""
    return [walk.random.choice((1, 1, 1, 2, 3, MOST)) for _ in range(walk.random.randint(2, 4))]


def extend(walk: Walk, pool: str) -> None:
    """A further chunk of a call that is still open, or its end."""
    open_calls = [
        call
        for call, about in walk.calls.items()
        if about.pool == pool and about.total is None and not about.is_cancelled
    ]
    if not open_calls:
        return
    call = walk.random.choice(open_calls)
    if walk.random.random() < 0.3:
        walk.calls[call].total = walk.calls[call].submitted
        _append(walk, call, [])
    else:
        _append(walk, call, mixed(walk))


def _append(walk: Walk, call: str, sizes: Sequence[int]) -> None:
    submission = submission_of(walk, call, sizes)
    for _ in range(walk.random.choice((1, 1, 2))):
        mergeable = walk.calls_of.mergeable(submission)
        if mergeable is not None and walk.random.random() < 0.5:
            walk.run(ask_one(*mergeable.merge(mergeable.kind, [mergeable.values])))
        else:
            walk.run(walk.calls_of.submit(submission))
    submitted(walk, call, sizes)


def submission_of(walk: Walk, call: str, sizes: Sequence[int]) -> Submission:
    """The next inputs of a call; an envelope says which ones it carries."""
    about = walk.calls[call]
    is_single = bool(sizes) and sizes[0] == 1
    blobs = [about.submitted] if is_single and walk.random.random() < 0.2 else []
    about.blobs.update(blobs)
    parts = parts_of(call, about.submitted, sizes)
    return Submission(
        call=call,
        pool=about.pool,
        digest=call.encode(),
        envelopes=[b"%d %d" % (part.first, part.size) for part in parts],
        first=about.submitted,
        total=about.total,
        ttl=TTL,
        now=1,
        blobs=[(index, b"blob") for index in blobs],
        sizes=() if set(sizes) <= {1} and walk.random.random() < 0.5 else sizes,
    )


def submitted(walk: Walk, call: str, sizes: Sequence[int]) -> None:
    """The model's side of a submit."""
    about = walk.calls[call]
    pool = walk.pools[about.pool]
    pool.queued.update(parts_of(call, about.submitted, sizes))
    about.submitted += sum(sizes)
    pool.is_active = pool.is_active or bool(sizes)


def parts_of(call: str, first: int, sizes: Sequence[int]) -> list[Part]:
    """Parts of these sizes, one behind the other."""
    return [Part(call, first + sum(sizes[:n]), size) for n, size in enumerate(sizes)]

"""The call that a slot becomes: an ordinary one without arguments, whose id and bytes follow from the slot."""

from __future__ import annotations

import msgpack

from qmodal.client.client import Client
from qmodal.exception import InternalFailure
from qmodal.services.control.schedules.table import Schedule
from qmodal.spec.documents import PoolSpec
from qmodal.store.calls import UnknownPoolError
from qmodal.store.entries import Submission
from qmodal.transport.operation import Op
from qmodal.wire.envelope import Head, seal
from qmodal.wire.ids import derived_call_id, new_call_id, shard_of
from qmodal.wire.signing import mac_of

# Nobody fetches its result. Its record is kept, for people, and so that a slot that is submitted twice is one call.
SHORTEST_MS, LONGEST_MS, SLOTS_KEPT = 60_000, 3_600_000, 10
_NO_ARGUMENTS: bytes = msgpack.packb(((), {}))
# A server that loses each opening of a pool again is not waited for.
MOST_OPENINGS = 10


def submit_slot(client: Client, schedule: Schedule, slot: int) -> Op[str]:
    """Submit the call of the slot, unless that is done; its id."""
    pool = _pool(schedule)
    call = derived_call_id(shard_of(pool.pool), pool.pool, f"slot {slot}")
    following = schedule.cadence.next(slot) or slot
    kept = min(LONGEST_MS, max(SHORTEST_MS, SLOTS_KEPT * (following - slot)))
    # Of the slot, not of now: what is submitted twice has to be the same.
    yield from _submit(client, pool, _submission(client, schedule, pool, call, slot, kept))
    return call


def submit_now(client: Client, schedule: Schedule, now: int) -> Op[str]:
    """Submit a call of the function beside its slots; its id."""
    pool = _pool(schedule)
    call = new_call_id(shard_of(pool.pool))
    kept = round(client.settings.result_ttl * 1000)
    yield from _submit(client, pool, _submission(client, schedule, pool, call, now, kept))
    return call


def _pool(schedule: Schedule) -> PoolSpec:
    function = schedule.function
    return PoolSpec(app_id=schedule.app_id, function=function, label=function)


def _submission(
    client: Client, schedule: Schedule, pool: PoolSpec, call: str, created: int, kept: int
) -> Submission:
    head = Head(pool.pool, call, "", created, None, schedule.python).pack()
    sealed = seal(client.signer, head, (0, 1, "m", _NO_ARGUMENTS, None))
    return Submission(
        call=call,
        pool=pool.pool,
        digest=mac_of(sealed),
        envelopes=(sealed,),
        total=1,
        ttl=kept,
        now=created,
    )


def _submit(client: Client, pool: PoolSpec, submission: Submission) -> Op[None]:
    for _ in range(MOST_OPENINGS):
        try:
            return (yield from client.calls.submit(submission))
        except UnknownPoolError:
            yield from client.pools.open(
                pool.pool,
                spec=pool.seal(client.signer),
                app=pool.app_id,
                function=pool.function,
                label=pool.label,
            )
    raise InternalFailure(f"the server forgets the pool of {pool.label} again and again")

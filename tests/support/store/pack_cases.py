"""Packs to try transitions on, and a call of each script that finds one to work on."""

from __future__ import annotations

from collections.abc import Callable

from qmodal.store.entries import Claimed, Ended, Requeued, Settled, charge
from qmodal.transport.operation import Command, Op
from tests.model.model import command_of
from tests.support.store.bench import Bench
from tests.support.store.cases import cancel_command

Ends = list[tuple[bytes, bytes, bytes]]
Pieces = list[tuple[int, int, int, int]]


def packed(bench: Bench) -> Claimed:
    """A claimed pack of five inputs."""
    call = bench.submit(1, envelopes=[b"pack"], sizes=[5], total=5)
    (claimed,) = (one for one in bench.claim(count=1000) if one.call == call)
    return claimed


def parts(bench: Bench, claimed: Claimed, *, keep: int | None = 2) -> Op[bool]:
    """Take such a pack apart: two have ended, two go back, one now and one later."""
    return bench.client.pools.split(
        bench.pool,
        "ta-a-1",
        claimed,
        keep=keep,
        ended=[Ended(0, 2 if keep is not None else 3, b"ended")],
        again=[Requeued(3, 1), Requeued(4, 1, 1, 600.0)],
    )


def kept(bench: Bench) -> Claimed:
    """A claimed pack whose entry stands for its third input only."""
    claimed = packed(bench)
    assert bench.client.run(parts(bench, claimed))
    return claimed


def outputs(bench: Bench, call: str) -> Ends:
    """(index, or index+count; kind; outcome) of each output."""
    found = bench.ask(b"XRANGE", bench.client.keys.outputs(call), b"-", b"+")
    return [(fields[1], fields[2], fields[3]) for _, fields in found]


def shapes(claimed: list[Claimed]) -> Pieces:
    """(first index, size, retries, losses) of each entry."""
    return [(one.first, one.size, one.retries, one.lost) for one in claimed]


def notes(bench: Bench) -> list[bytes]:
    """The entries that stand for one input of their pack."""
    fields: list[bytes] = bench.ask(b"HKEYS", bench.client.keys.pool(bench.pool))
    return [field for field in fields if field.startswith(b"kept:")]


def settle_part(
    bench: Bench, claimed: Claimed, index: int, count: int, *, is_kept: bool
) -> list[int]:
    """Settle so many inputs of an entry; the script's reply."""
    lane, entry, _ = claimed
    settled = Settled(lane, entry, claimed.call, index, b"end", False, count, is_kept)
    reply: list[int] = bench.ask(*bench.client.pools.settle_command(bench.pool, [settled]))
    return reply


def again_in_line(bench: Bench, claimed: Claimed) -> Claimed:
    """The same pack in the other lane."""
    held = [(claimed.lane, claimed.entry, claimed.call)]
    assert bench.client.run(bench.client.pools.release(bench.pool, held)) == 1
    (moved,) = bench.claim()
    assert moved.lane == 2
    return moved


def submit_packs(bench: Bench) -> Command:
    submission = bench.submission(3, sizes=[1, 4, 2], total=7)
    return bench.client.calls.submit_commands(submission)[-1]


def settle_pack(bench: Bench) -> Command:
    lane, entry, _ = claimed = packed(bench)
    settled = Settled(lane, entry, claimed.call, 0, b"values", False, 5)
    return bench.client.pools.settle_command(bench.pool, [settled])


def settle_kept(bench: Bench) -> Command:
    lane, entry, _ = claimed = kept(bench)
    settled = Settled(lane, entry, claimed.call, 2, b"value", False, is_kept=True)
    return bench.client.pools.settle_command(bench.pool, [settled])


def split(bench: Bench) -> Command:
    return command_of(parts(bench, packed(bench)))


def split_all(bench: Bench) -> Command:
    return command_of(parts(bench, packed(bench), keep=None))


def reclaim_pack(bench: Bench) -> Command:
    claimed = packed(bench)
    charged = [f"1 {claimed.entry} 2"]
    return command_of(bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="x", charged=charged))


def reclaim_kept(bench: Bench) -> Command:
    charged = [charge(kept(bench))]
    return command_of(bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="x", charged=charged))


def retry_kept(bench: Bench) -> Command:
    return command_of(bench.client.pools.retry(bench.pool, kept(bench), delay=600))


def release_kept(bench: Bench) -> Command:
    held = kept(bench)
    op = bench.client.pools.release(bench.pool, [(held.lane, held.entry, held.call)])
    return command_of(op)


def bury_kept(bench: Bench) -> Command:
    return command_of(bench.client.pools.bury(bench.pool, kept(bench), reason="bad"))


def cancel_kept(bench: Bench) -> Command:
    return cancel_command(bench, kept(bench).call)


def purge_kept(bench: Bench) -> Command:
    kept(bench)
    return bench.client.pools.purge_command(bench.pool, 1, till=b"+", reason="over")


PACK_CASES: list[Callable[[Bench], Command]] = [
    *(submit_packs, settle_pack, settle_kept, split, split_all, reclaim_pack, reclaim_kept),
    *(retry_kept, release_kept, bury_kept, cancel_kept, purge_kept),
]

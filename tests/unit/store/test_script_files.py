"""The scripts as files: small, honest about their keys, and legal on a cluster."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qmodal.store
from qmodal.store.apps import AppRecord, Apps
from qmodal.store.calls import Calls
from qmodal.store.entries import Claimed, Ended, Requeued, Settled, Submission
from qmodal.store.fleet import Fleet, WorkerReport
from qmodal.store.history.leftovers import expire_part_command
from qmodal.store.history.statistics import Series, Statistics
from qmodal.store.keys import Keys
from qmodal.store.objects.dicts import Dicts
from qmodal.store.objects.names import ObjectNames
from qmodal.store.objects.queues import PutItems, Queues
from qmodal.store.objects.schedules import LastRun, Schedules
from qmodal.store.objects.secrets import Secrets, StoredSecret
from qmodal.store.objects.writers import Writer
from qmodal.store.pools import Pools
from qmodal.store.results.arguments import KeptArguments
from qmodal.store.results.items import Emission, Items
from qmodal.store.server import accept_command
from qmodal.store.watch.boxes import Boxes
from qmodal.store.watch.observing import Observing
from qmodal.store.watch.succession import Successions
from qmodal.store.web.routes import Routes
from qmodal.transport.operation import Exchange
from qmodal.transport.script import Script, load_commands, script
from qmodal.wire.ids import pool_id, shard_of
from qmodal.wire.route import NamedRoute, Route
from qmodal.wire.signing import Signer

FOLDER = Path(inspect.getfile(qmodal.store)).parent / "lua"
FILES = sorted(FOLDER.rglob("*.lua"))
KEYS = Keys("p")
POOL = pool_id("ap-1", "f", b"")
CALL = f"fc-{shard_of(POOL):02d}aaaaaaaaaaaaaaaaaaaa"
FIELDS = (b"e", b"x", b"c", CALL.encode(), b"i", b"0", b"r", b"0", b"d", b"0", b"n", b"1")
CLAIMED = Claimed(2, "1-1", FIELDS)
SUBMISSION = Submission(
    call=CALL,
    pool=POOL,
    digest=b"d",
    envelopes=[b"e", b"f"],
    ttl=1,
    now=1,
    blobs=[(0, b"b"), (1, b"c")],
)
FUNCTIONS = [path.stem for path in FILES if "shared" in path.parts and path.stem != "fields"]
POOLS, CALLS, FLEET, APPS = Pools(KEYS), Calls(KEYS), Fleet(KEYS), Apps(KEYS)
BOXES = Boxes(KEYS)
ARGUMENTS = KeptArguments(KEYS)
SCHEDULES = Schedules(KEYS)
ROUTES = Routes(KEYS, Signer(b"root"))
SECRETS = Secrets(KEYS, Signer(b"root"))
SECRET = StoredSecret("main", "aws", "st-1", 1, 1, ("A",), b"sealed")
ROUTE = NamedRoute("deployed", "label", "n-f", Route("ap-1", "n", "main", "f", "", 1))
ITEMS = Items(KEYS)
EMISSION = Emission(
    pool=POOL,
    container="ta-1",
    lane=2,
    entry="1-1",
    call=CALL,
    index=0,
    first=0,
    signed=[b"a", b"b"],
)
REPORT = WorkerReport(
    worker="wk-1", host="h", pid=1, cpus=1.0, memory=1, max_containers=1, python="3", version="0"
)
RECORD = AppRecord(app_id="ap-1", name="n", environment="main", state="deployed", version=1)


def commands(made: Any) -> tuple[tuple[Any, ...], ...]:
    """The commands of a description, or of the first exchange of an operation."""
    if inspect.isgenerator(made):
        request = next(made)
        assert isinstance(request, Exchange)
        return request.commands
    return (made,)


def cancel_walk() -> tuple[Any, ...]:
    """The walk of a cancel, which comes after two looks."""
    op = CALLS._cancel_range(CALL, POOL, 1, (b"1-1", b"2-2"), False)
    return commands(op)[0]


DICT, QUEUE = "di-07" + "a" * 20, "qu-07" + "a" * 20
DICTS, QUEUES, NAMES = (
    Dicts(KEYS),
    Queues(KEYS, Signer(b"root")),
    ObjectNames(KEYS, Signer(b"root")),
)

METHODS: dict[str, Callable[[], Any]] = {
    "put_entry": lambda: DICTS.put_command(DICT, [b"k", b"v"]),
    "put_entries": lambda: DICTS.put_command(DICT, [b"k", b"v", b"l", b"w"]),
    "put_absent": lambda: DICTS.put_absent(DICT, b"k", b"v"),
    "take_entry": lambda: DICTS.remove(DICT, b"k", b"v"),
    "touch_entry": lambda: DICTS.touch_command(DICT, b"k"),
    "read_entries": lambda: DICTS.read_command(DICT, [b"k"]),
    "count_entries": lambda: DICTS.count_command(DICT),
    "put_item": lambda: QUEUES.put_one_command(QUEUE, "p", 1, b"i", Writer()),
    "put_items": lambda: QUEUES.put_command(QUEUE, PutItems("p", [b"i"], 1), Writer()),
    "peek_items": lambda: QUEUES.peek_command(QUEUE, "p", b"", 1),
    "forget_partitions": lambda: QUEUES.forget_command(QUEUE, ["p"]),
    "make_object": lambda: NAMES.make_command(DICT, b"record", ttl=1, life=0),
    "name_object": lambda: NAMES.name_command("dict", "main/n", b"", b"record"),
    "submit": lambda: CALLS.submit_commands(SUBMISSION)[-1],
    "submit_each": lambda: CALLS.submit_each_command((POOL, 1, "m"), [(CALL, b"d", 1, b"e")]),
    "cancel": cancel_walk,
    "open": lambda: POOLS.open(POOL, spec=b"s", app="ap-1", function="f", label="f"),
    "join": lambda: POOLS.join(POOL),
    "leave": lambda: POOLS.leave(POOL),
    "settle": lambda: POOLS.settle_command(
        POOL, [Settled(1, "1-1", CALL, 0, b"o", True), Settled(2, "1-2", CALL, 1, b"o", False)]
    ),
    "drop_arguments": lambda: ARGUMENTS.drop_command("ap-1", shard_of(POOL)),
    "mark": lambda: POOLS.mark_command(POOL, "ta-1"),
    "succeed": lambda: Successions(KEYS).command(POOL, 2, "ta-1"),
    "retry": lambda: POOLS.retry(POOL, CLAIMED, delay=1),
    "split": lambda: POOLS.split(
        POOL,
        "ta-1",
        CLAIMED,
        keep=3,
        ended=[Ended(0, 3, b"o")],
        again=[Requeued(4, 2, 1, 0.5)],
    ),
    "release": lambda: POOLS.release(POOL, [(1, "1-1", CALL), (2, "1-1", CALL)]),
    "reclaim": lambda: POOLS.reclaim(POOL, "ta-1", reason="r", charged=["*"]),
    "bury": lambda: POOLS.bury(POOL, CLAIMED, reason="r"),
    "purge": lambda: POOLS.purge_command(POOL, 1, till=b"+", reason="r"),
    "promote": lambda: POOLS.promote(POOL),
    "emit": lambda: ITEMS.emit_command(EMISSION),
    "take": lambda: ITEMS.take_command(CALL, [b"1-1", b"1-2"]),
    "observe": lambda: Observing(KEYS).observe([POOL]),
    "note": lambda: Observing(KEYS).serve(POOL, is_served=True),
    "renew": lambda: FLEET.renew("wk-1", {"ta-1": None}),
    "sweep": lambda: FLEET.sweep({"wk-1": 1.0}),
    "assign": lambda: FLEET.assign("wk-1", {"ta-1": "p"}, epoch=1),
    "lead": lambda: FLEET.lead("as-1"),
    "deploy": lambda: APPS.publish(RECORD, document=b"d", now=1),
    "resign": lambda: FLEET.resign("as-1"),
    "enroll": lambda: FLEET.enroll(REPORT),
    "count": lambda: Statistics(KEYS).add("wk-1", 1, {Series("main", "n", "f"): {"value": 1}}),
    "retire": lambda: FLEET.retire("wk-1"),
    "cordon": lambda: BOXES.cordon("wk-1"),
    "describe": lambda: BOXES.describe(REPORT),
    "accept": lambda: accept_command(KEYS, "id", "fingerprint"),
    "override": lambda: APPS.override("ap-1", POOL, {"min_containers": 1}),
    "stop": lambda: APPS.stop(RECORD),
    "tag": lambda: APPS.set_tags("ap-1", {}),
    "keep_secret": lambda: SECRETS.keep_command(SECRET, b""),
    "route": lambda: ROUTES.publish("ap-1", 1, [ROUTE], lifetime=0),
    "note_run": lambda: SCHEDULES.note_run("ap-1", "f", LastRun(1, 2, CALL, "cron")),
    "hold": lambda: SCHEDULES.hold("ap-1", "f", is_paused=True),
    "expire_part": lambda: expire_part_command(KEYS.outputs(CALL), KEYS.call(CALL)),
    "disown": lambda: POOLS.disown(POOL),
    "forget": lambda: APPS.forget("ap-1", 1),
    "disuse": lambda: APPS.disuse_command("ab", ["ap-1", "ap-2"]),
    "prolong": lambda: APPS.prolong_routes_command("ap-1", 1),
}


def test_every_script_is_called_by_one_method_of_the_store() -> None:
    assert set(METHODS) == {path.stem for path in FILES if "shared" not in path.parts}


@pytest.mark.parametrize("name", METHODS)
def test_all_keys_of_a_script_share_one_hash_tag(name: str) -> None:
    """Otherwise a cluster refuses the script; keys that it spells itself start with an argument."""
    (command,) = commands(METHODS[name]())
    verb, address, count, *rest = command
    assert (verb, address) == (b"EVALSHA", script(name).sha)
    keys, arguments = rest[:count], rest[count:]
    starts = [part for part in arguments if isinstance(part, str) and part.startswith("p:{")]
    tags = {re.findall(r"\{(\w+)\}", key)[0] for key in (*keys, *starts)}
    assert len(tags) == 1
    assert count >= len(script(name).keys)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_says_what_it_does_in_sixty_lines(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 60
    head = lines[1] if lines[0].startswith("#!") else lines[0]
    assert head.startswith("-- ")
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_does_nothing_that_loses_inputs(path: Path) -> None:
    """Each was learned the hard way: trimmed, stolen, or skipped entries are lost in silence."""
    text = path.read_text("utf-8")
    assert not re.search(r"XTRIM|XCLAIM|XAUTOCLAIM|'\$'|'KEYS'|FLUSH", text)
    # Streams of replies repeat what outputs say, and nobody relies on them.
    assert "MAXLEN" not in text or "dead" in text or "NOMKSTREAM" in text
    shebang = text.splitlines()[0].startswith("#!")
    assert not shebang or text.startswith("#!lua flags=allow-oom\n")


def test_names_in_a_scripts_head_are_its_interface() -> None:
    submit = Script("submit")
    assert submit.keys[:2] == ("call", "pool")
    assert submit.arguments[-1] == "reply_to"
    with pytest.raises(TypeError, match=r"submit\.lua takes keys \('call', .* got 1 and 0"):
        submit.command(("only one",))


def test_includes_are_put_in_once_and_completely() -> None:
    for _, _, text in load_commands():
        assert "-- include:" not in text
        for name in FUNCTIONS:
            is_used = re.search(rf"\b{name}\(", text) is not None
            assert text.count(f"local function {name}(") == int(is_used), name


def test_values_of_an_entry_are_read_by_name() -> None:
    """A number says nothing, and one that is off by two reads another value."""
    places = (FOLDER / "shared" / "entries" / "fields.lua").read_text("utf-8")
    names = "|".join(re.findall(r"^local ([A-Z_]+) = \d+", places, re.MULTILINE))
    for _, _, text in load_commands():
        is_used = re.search(rf"\b({names})\b", text) is not None
        assert text.count("local ENVELOPE = ") == int(is_used)
    for path in FILES:
        assert not re.search(r"\b(entry|fields|part|known)\[\d", path.read_text("utf-8")), path


# What a statement may begin behind, and words that begin none.
_OPENING = {"then", "do", "else"}
_JOINING = {"and", "or", "not", "then", "do", "else", "elseif", "end", "in", "until", "local"}
_BLOCKS = {"if", "for", "while", "function"}


def statements_of(line: str) -> list[str]:
    """The first word of each statement of a line."""
    code = re.sub(r"'[^']*'", "''", line.partition("-- ")[0])
    found, before = [], "do"
    for token in re.findall(r"''|\w[\w.:]*|\.\.|[^\w\s]", code):
        ends_before = before == "end" or (
            before not in _JOINING | _BLOCKS | {"return"}
            and re.fullmatch(r"''|\w[\w.:]*|[)\]}]", before)
        )
        is_word = re.match(r"[a-zA-Z_]", token) and token not in _JOINING - {"local"}
        if is_word and (before in _OPENING or ends_before):
            found.append(token)
        before = token
    return found


@pytest.mark.parametrize(
    ("line", "statements"),
    [
        ("  local _, b = f(x, 'a b') -- c d", ["local"]),
        ("if a[1] and not b then return c end", ["if", "return"]),
        ("for n = 1, 2 do if a then b(n) end end", ["for", "if", "b"]),
        ("if a then b(1) else c = 2 end", ["if", "b", "c"]),
        ("if a then b(1) c(2) end", ["if", "b", "c"]),
        ("local a = b local c = d", ["local", "local"]),
        ("  and a or 'b' -- goes on", []),
    ],
)
def test_statements_are_found(line: str, statements: list[str]) -> None:
    assert statements_of(line) == statements


def assigns_unrelated(line: str) -> bool:
    """Whether several names are given values that are not the results of one call."""
    found = re.match(r"\s*(?:local )?[\w\[\]#.+ ]+(?:, [\w\[\]#.+ ]+)+ = (.*)", line)
    values = found[1].partition(" -- ")[0] if found else ""
    while values != (values := re.sub(r"\([^()]*\)|\{[^{}]*\}|'[^']*'", "", values)):
        pass
    return "," in values


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_line_of_a_script_has_one_statement(path: Path) -> None:
    """And at most one control structure around it: what is packed to be short is read wrongly."""
    for line in path.read_text("utf-8").splitlines():
        blocks = [word for word in statements_of(line) if word in _BLOCKS]
        assert len(blocks) <= 1, line
        assert len(statements_of(line)) - len(blocks) <= 1, line
        assert not assigns_unrelated(line), line


def test_every_script_is_loaded() -> None:
    assert len(load_commands()) == len(METHODS)
    assert len({text for _, _, text in load_commands()}) == len(METHODS)

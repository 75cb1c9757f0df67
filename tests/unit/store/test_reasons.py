"""Reasons: what travels, what foreign bytes make of it, and that the page for users has all of them."""

from __future__ import annotations

import itertools
import re
from typing import Any, get_args

import msgpack
import pytest

from qmodal.cli.commands.finding.why.box import BOX_WORDING
from qmodal.store.watch import reasons
from qmodal.store.watch.reasons import (
    LONGEST_TEXT,
    MOST_POOLS,
    MOST_TEXTS,
    WORDING,
    Kind,
    Reason,
    Reasons,
)
from tests.support.stacks import ROOT

SAID = Reasons(
    {
        "a": Reason.of("room", detail="2 of 2 containers run")._replace(ahead=1),
        "b": Reason.of("room", detail="2 of 2 containers run")._replace(ahead=2),
        "c": Reason.of("maximum", most=4),
    }
)
PLAIN: dict[str, Any] = {
    "kinds": ["room"],
    "texts": ["no"],
    "pools": ["a"],
    "which": [0],
    "ahead": [0],
}
ODD: dict[str, Any] = {
    "no msgpack": b"\xc1",
    "no map": msgpack.packb([1]),
    "a part is missing": msgpack.packb({"kinds": []}),
    "a part is no list": msgpack.packb(PLAIN | {"pools": "a"}),
    "a number is text": msgpack.packb(PLAIN | {"which": ["0"]}),
    "a number is none of a reason": msgpack.packb(PLAIN | {"which": [1]}),
    "a number is below": msgpack.packb(PLAIN | {"which": [-1]}),
    "the parts differ in length": msgpack.packb(PLAIN | {"pools": ["a", "b"]}),
    "a line is shorter than nothing": msgpack.packb(PLAIN | {"ahead": [-1]}),
    "too many pools": msgpack.packb(
        PLAIN | {name: PLAIN[name] * (MOST_POOLS + 1) for name in ("pools", "which", "ahead")}
    ),
    "a kind that nobody knows": msgpack.packb(PLAIN | {"kinds": ["__class__"]}),
    "nothing": None,
}


def test_what_is_said_is_read_as_it_was() -> None:
    assert Reasons.opened(SAID.packed(), "there") == SAID
    assert Reasons.opened(Reasons().packed(), "there") == Reasons()


def test_there_is_an_end_to_what_is_said() -> None:
    many = {f"p{n}": Reason("room", "same") for n in range(MOST_POOLS + 10)}
    assert len(Reasons.opened(Reasons(many).packed(), "there").of) == MOST_POOLS
    different = {f"p{n}": Reason("room", f"as {n}") for n in range(MOST_TEXTS + 10)}
    assert len(Reasons.opened(Reasons(different).packed(), "there").of) == MOST_TEXTS


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_nothing(name: str) -> None:
    assert Reasons.opened(ODD[name], name) == Reasons()


def test_a_text_that_somebody_wrote_is_one_line_and_its_advice_is_ours() -> None:
    text = "\x1b[2J{pool.__class__}\n" + "x" * 100_000
    found = Reasons.opened(msgpack.packb(PLAIN | {"texts": [text]}), "there").of["a"]
    sentence = found.sentence("a")
    assert sentence.isprintable()
    assert len(found.text) == LONGEST_TEXT
    assert "{pool.__class__}" in sentence
    assert sentence.endswith("shows what runs")


def test_what_is_ahead_is_said() -> None:
    assert SAID.of["a"].full.endswith(", and 1 pool is ahead of it")
    assert SAID.of["b"].full.endswith(", and 2 pools are ahead of it")
    assert SAID.of["c"].sentence("c").startswith(SAID.of["c"].text + ". A higher ")


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table with that heading on the page for users, by their first cell."""
    page = (ROOT / "docs" / "why.md").read_text("utf-8")
    lines = page[page.index(heading) :].splitlines()[2:]
    cells = [line.strip("|").split("|") for line in itertools.takewhile(bool, lines)]
    return {name.strip(" `"): [each.strip() for each in rest] for name, *rest in cells}


def is_example(text: str, template: str) -> bool:
    """Whether the text is what the template says with some facts."""
    return re.fullmatch(re.sub(r"\\\{.*?\\\}", ".+", re.escape(template)), text) is not None


def test_every_kind_has_its_wording_and_its_row_in_the_page() -> None:
    assert (*WORDING,) == get_args(Kind)
    found = rows("| reason | in short |")
    assert (*found,) == (*WORDING,)
    for kind, wording in WORDING.items():
        short, text, advice = found[kind]
        assert (short, advice) == (wording.short, wording.advice.format(pool="POOL"))
        assert is_example(text, wording.text), (text, wording.text)


def test_every_reason_of_a_box_has_its_row_in_the_page() -> None:
    found = rows("| reason | it says")
    assert (*found,) == (*BOX_WORDING,)
    for kind, (template, advice) in BOX_WORDING.items():
        assert is_example(found[kind][0], template), kind
        assert found[kind][1] == advice.format(worker="WORKER")


def test_kinds_have_groups_of_their_own() -> None:
    assert not reasons.IN_LINE & reasons.CALM

"""Items on the wire: bound to one place in the results of one request."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.wire.envelope import MalformedError
from qmodal.wire.item import Item, open_item
from qmodal.wire.outcome import Outcome, open_outcome
from qmodal.wire.signing import BadSignatureError, Signer

SIGNER = Signer(bytes(32))
ITEM = Item(3, "1-1", "m", b"payload")
PLACE: dict[str, Any] = {"call": "fc-1", "index": 0, "request": b"r" * 16}
SEALED = ITEM.seal(SIGNER, **PLACE)


def test_an_item_comes_back_as_it_was() -> None:
    assert open_item(SEALED, SIGNER, **PLACE) == ITEM


@pytest.mark.parametrize("change", [{"call": "fc-2"}, {"index": 1}, {"request": b"s" * 16}])
def test_an_item_of_another_input_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match="another input"):
        open_item(SEALED, SIGNER, **(PLACE | change))


def test_a_changed_item_is_refused() -> None:
    with pytest.raises(BadSignatureError):
        open_item(SEALED[:-1] + b"x", SIGNER, **PLACE)


def test_an_item_is_no_outcome_nor_the_other_way_round() -> None:
    with pytest.raises(MalformedError):
        open_outcome(SEALED, SIGNER, **PLACE)
    outcome = Outcome("value", "m", b"payload").seal(SIGNER, **PLACE)
    with pytest.raises(MalformedError):
        open_item(outcome, SIGNER, **PLACE)

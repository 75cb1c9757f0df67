"""Ids: their shapes, and that no two processes draw the same."""

from __future__ import annotations

import os
import re

import pytest

from qmodal.wire import ids


def test_a_call_id_names_its_shard() -> None:
    for shard in (0, 7, 63):
        call = ids.new_call_id(shard)
        assert re.fullmatch(r"fc-[0-9]{2}[0-9A-Za-z]{20}", call)
        assert int(call[3:5]) == shard
        assert ids.is_call_id(call)


def test_ids_of_one_process_differ() -> None:
    assert len({ids.new_call_id(1) for _ in range(10_000)}) == 10_000


def test_a_forked_child_draws_other_ids_than_its_parent() -> None:
    """Two containers of one template would otherwise send calls under the same ids."""
    ids.new_call_id(1)
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, ids.new_call_id(1).encode())
        os._exit(0)
    os.close(writable)
    os.waitpid(child, 0)
    with os.fdopen(readable) as pipe:
        drawn = pipe.read()
    assert ids.is_call_id(drawn)
    assert drawn[:19] != ids.new_call_id(1)[:19]


def test_app_and_worker_ids_have_their_shapes() -> None:
    assert re.fullmatch(r"ap-[0-9A-Za-z]{22}", ids.new_app_id())
    assert re.fullmatch(r"wk-[0-9A-Za-z]{10}", ids.new_worker_id())


def test_a_container_id_leads_back_to_its_worker() -> None:
    worker = ids.new_worker_id()
    container = ids.container_id(worker, 12)
    assert re.fullmatch(r"ta-[0-9A-Za-z]{10}-12", container)
    assert ids.worker_of(container) == worker


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        *(("ta-aaaaaaaaaa-1", True), ("ta-aaaaaaaaaa-12345", True)),
        *(("ta-bbbbbbbbbb-1", False), ("ta-aaaaaaaaaa-", False), ("ta-aaaaaaaaaa", False)),
        *(("xx-aaaaaaaaaa-1", False), ("ta-aaaaaaaaaa-1\n", False), ("ta-aaaaaaaaaa-²", False)),
        *(("ta-aaaaaaaaaa--1", False), ("ta-aaaaaaaaaa-" + "9" * 20, False), ("", False)),
    ],
)
def test_a_worker_knows_ids_of_its_own_containers(text: str, is_one: bool) -> None:
    assert ids.is_container_of(text, "wk-aaaaaaaaaa") is is_one


def test_an_input_id_names_its_call_and_index() -> None:
    assert ids.input_id("fc-07abc", 3) == "in-07abc-3"


@pytest.mark.parametrize(
    "text",
    [
        *("", "fc-", "ap-00aaaaaaaaaaaaaaaaaaaa", "fc-64aaaaaaaaaaaaaaaaaaaa", "fc-0", "fc-00a"),
        *("fc-xxaaaaaaaaaaaaaaaaaaaa", "fc-00aaaaaaaaaaaaaaaaaaa}", "fc-00aaaaaaaaaaaaaaaaaaa\n"),
        *("fc-00aaaaaaaaaaaaaaaaaaaé", "fc-00aaaaaaaaaaaaaaa:outputs"),
    ],
)
def test_other_texts_are_no_call_ids(text: str) -> None:
    assert not ids.is_call_id(text)

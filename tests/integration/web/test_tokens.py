"""Tokens on a real server: made, found, listed, revoked, and not to be forged."""

from __future__ import annotations

import dataclasses
import secrets

from qmodal.client.client import Client
from qmodal.store.web.tokens import SHOWN_CHARACTERS
from tests.support.store.bench import Bench


def test_a_token_admits_its_secret_and_no_other(client: Client) -> None:
    made = client.run(client.tokens.make("for tests"))
    other = client.run(client.tokens.make())
    found = client.run(client.tokens.find(made.token))
    assert found is not None
    assert found.admits(made.secret)
    for wrong in ("", made.secret[:-1], other.secret, made.token, "grün", "\udcff"):
        assert not found.admits(wrong), wrong
    for each in (made, other):
        assert client.run(client.tokens.revoke(each.token))


def test_lists_show_what_a_token_is_for_and_a_revoked_one_is_gone(client: Client) -> None:
    first = client.run(client.tokens.make("the shop"))
    second = client.run(client.tokens.make("half a character \udcff"))
    listed = client.run(client.tokens.listed())
    assert {each.token: each.note for each in listed} == {
        first.token: "the shop",
        second.token: "half a character \\udcff",
    }
    endings = {each.token: each.ending for each in listed}
    assert endings[first.token] == first.secret[-SHOWN_CHARACTERS:]
    assert [each.created for each in listed] == sorted(each.created for each in listed)
    assert client.run(client.tokens.revoke(first.token))
    assert not client.run(client.tokens.revoke(first.token))
    assert client.run(client.tokens.find(first.token)) is None
    assert [each.token for each in client.run(client.tokens.listed())] == [second.token]
    assert client.run(client.tokens.revoke(second.token))


def test_the_server_never_has_the_secret(bench: Bench) -> None:
    client = bench.client
    made = client.run(client.tokens.make("note"))
    kept = bench.ask(b"HGET", client.keys.tokens, made.token)
    assert made.secret[:-SHOWN_CHARACTERS].encode() not in kept
    assert client.run(client.tokens.revoke(made.token))


def test_who_can_only_write_to_the_server_makes_no_token(bench: Bench) -> None:
    client, key = bench.client, bench.client.keys.tokens
    made = client.run(client.tokens.make())
    stranger = Client(dataclasses.replace(client.settings, signing_key=secrets.token_bytes(32)))
    stranger.is_checked = True  # as whoever does not ask
    foreign = stranger.run(stranger.tokens.make())
    bench.ask(b"HSET", key, "tk-copy", bench.ask(b"HGET", key, made.token))
    bench.ask(b"HSET", key, "tk-odd", b"\xff" * 40)
    bench.ask(b"HSET", key, b"\xff", b"")
    for name in (foreign.token, "tk-copy", "tk-odd"):
        assert client.run(client.tokens.find(name)) is None, name
    assert [each.token for each in client.run(client.tokens.listed())] == [made.token]
    stranger.close()
    bench.ask(b"DEL", key)

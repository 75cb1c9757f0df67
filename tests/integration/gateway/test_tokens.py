"""Tokens on a real server: made, verified, listed, revoked, and not to be forged."""

from __future__ import annotations

import dataclasses
import secrets

from qmodal.client.client import Client
from tests.support.store.bench import Bench


def test_a_token_is_known_by_its_secret_and_no_other(client: Client) -> None:
    tokens = client.tokens
    made, other = client.run(tokens.create("for tests")), client.run(tokens.create())
    assert client.run(tokens.verify(*made))
    odd = ("", made.secret[:-1], other.secret, "grün", "\udcff", "x" * 10_000)
    for wrong in (*odd, made.key):
        assert not client.run(tokens.verify(made.key, wrong)), wrong
    for wrong in (*odd, other.key):
        assert not client.run(tokens.verify(wrong, made.secret)), wrong
    for each in (made, other):
        assert client.run(tokens.revoke(each.key))


def test_lists_say_what_tokens_are_for_and_a_revoked_one_is_gone(client: Client) -> None:
    tokens = client.tokens
    first, second = client.run(tokens.create("the shop")), client.run(tokens.create())
    listed = client.run(tokens.all())
    assert {each.key: each.name for each in listed} == {first.key: "the shop", second.key: ""}
    assert [each.created for each in listed] == sorted(each.created for each in listed)
    assert client.run(tokens.revoke(first.key))
    assert not client.run(tokens.revoke(first.key))
    assert not client.run(tokens.verify(*first))
    assert [each.key for each in client.run(tokens.all())] == [second.key]
    assert client.run(tokens.revoke(second.key))


def test_the_server_never_has_the_secret(bench: Bench) -> None:
    client = bench.client
    made = client.run(client.tokens.create("note"))
    kept = bench.ask(b"HGET", client.keys.tokens, made.key)
    assert made.secret.removeprefix("ws-").encode() not in kept
    assert client.run(client.tokens.revoke(made.key))


def test_who_can_only_write_to_the_server_makes_no_token(bench: Bench) -> None:
    client, key = bench.client, bench.client.keys.tokens
    made = client.run(client.tokens.create())
    settings = dataclasses.replace(client.settings, signing_key=secrets.token_bytes(32))
    stranger = Client(settings, is_checked=True)
    foreign = stranger.run(stranger.tokens.create())
    stranger.close()
    bench.ask(b"HSET", key, "wk-copy", bench.ask(b"HGET", key, made.key))
    bench.ask(b"HSET", key, "wk-odd", b"\xff" * 40)
    bench.ask(b"HSET", key, b"\xff", b"")
    for name, secret in ((foreign.key, foreign.secret), ("wk-copy", made.secret), ("wk-odd", "")):
        assert not client.run(client.tokens.verify(name, secret)), name
    assert [each.key for each in client.run(client.tokens.all())] == [made.key]
    bench.ask(b"DEL", key)

"""`durableq once`: values that one process computes for all, as a person sees them."""

from __future__ import annotations

import os

import pytest

from durableq.model.once import OnceRequest
from durableq.store.core import Capability
from tests.cli.console import Run, Shop
from tests.engine import plain


def test_a_value_can_be_shown_and_forgotten(run: Run, shop: Shop) -> None:
    shop.dq.once("rates", lambda: {"eur": 1}, ttl=3600, stale=60)
    found = run("once", "get", "rates", "--json").json
    assert (found["key"], found["state"], found["value"]) == ("rates", "fresh", {"eur": 1})
    assert found["expires_at_ms"] == found["created_at_ms"] + 3_600_000
    assert found["stale_until_ms"] == found["expires_at_ms"] + 60_000
    assert (found["lease_left_ms"], found["owner"]) == (0, None)
    told = run("once", "get", "rates").out
    assert '{"eur":1}' in told
    assert run("once", "forget", "rates").lines == ["Forgot the value of rates."]
    for verb in ("get", "forget"):
        missing = run("once", verb, "rates")
        assert (missing.code, missing.out) == (3, "")
        assert "There is no value of 'rates', and no process computes it." in missing.err


def test_the_process_that_computes_is_shown(run: Run, shop: Shop) -> None:
    seen = []

    def compute() -> int:
        seen.append(run("once", "get", "rates", "--json").json)
        seen.append(run("once", "get", "rates").out)
        seen.append(run("once", "list").lines[1].split()[:4])
        return 7

    shop.dq.once("rates", compute, ttl=3600)
    document, told, row = seen
    assert (document["state"], document["value"]) == ("none", None)
    assert document["owner"]["pid"] == os.getpid()
    assert 0 < document["lease_left_ms"] <= 30_000
    assert f"pid {os.getpid()}, lease " in told
    assert row == ["rates", "none", "-", "-"]
    store = shop.dq.store.require(Capability.ONCE)
    store.once_get_or_lease("other", OnceRequest(b"x" * 16, 60_000, "damaged"))
    assert "another process, lease " in run("once", "get", "other").out


def test_values_are_listed_in_pages(run: Run, shop: Shop) -> None:
    for name in "abc":
        shop.dq.once(name, name.upper, ttl=3600)
    first = run("once", "list", "--limit", 2, "--json").rows
    rest = run("once", "list", "--after", first[-1]["key"], "--json").rows
    assert [entry["key"] for entry in first + rest] == ["a", "b", "c"]
    assert [entry["value"] for entry in first + rest] == ["A", "B", "C"]
    assert run("once", "list").lines[1].split()[:2] == ["a", "fresh"]


def test_a_stale_value_is_shown_as_one(run: Run, shop: Shop) -> None:
    shop.dq.once("rates", lambda: 1, ttl=0.001, stale=3600)
    assert run("once", "get", "rates", "--json").json["state"] == "stale"


def test_a_damaged_value_is_shown_as_text(run: Run, shop: Shop) -> None:
    shop.dq.once("rates", lambda: 1, ttl=3600)
    plain.script(shop.path, "UPDATE durableq_once SET value = '{'")
    assert run("once", "list", "--json").rows[0]["value"] == "{"


@pytest.mark.parametrize("verb", ["get", "forget"])
def test_a_key_that_no_value_can_have_is_refused(run: Run, shop: Shop, verb: str) -> None:
    refused = run("once", verb, "")
    assert (refused.code, refused.out) == (2, "")
    assert "A key is a string of 1 to 512 characters" in refused.err

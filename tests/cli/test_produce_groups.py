"""`produce`: the groups of messages, from a field or an envelope."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.console import Run, Shop
from tests.cli.test_produce import lines_file


def test_fields_give_each_group_and_key(run: Run, shop: Shop, tmp_path: Path) -> None:
    file = lines_file(tmp_path, '{"id": 1, "customer": "ann"}', '{"id": 2, "customer": 7}')
    options = ("--queue", "orders", "--group-field", "customer", "--key-field", "id")
    assert run("produce", file, *options).code == 0
    sent = [(message["key"], message["group"]) for message in run("peek", "--json").rows]
    assert sent == [("1", "ann"), ("2", "7")]


def test_an_envelope_has_a_group(run: Run, shop: Shop, tmp_path: Path) -> None:
    file = lines_file(tmp_path, '{"body": 1, "group": 7}')
    assert run("produce", file, "--queue", "orders", "--envelope").code == 0
    assert [message["group"] for message in run("peek", "--json").rows] == ["7"]


def test_a_group_that_is_too_long_is_a_bad_line(run: Run, shop: Shop, tmp_path: Path) -> None:
    file = lines_file(tmp_path, json.dumps({"body": 1, "group": "g" * 129}))
    sent = run("produce", file, "--queue", "orders", "--envelope")
    assert sent.code == 1
    assert "A group is a string of 1 to 128 characters" in sent.err
    assert shop.bodies() == []


def test_an_envelope_names_its_own_group(run: Run, tmp_path: Path) -> None:
    file = lines_file(tmp_path, '{"body": 1}')
    refused = run("produce", file, "--queue", "orders", "--envelope", "--group-field", "id")
    assert refused.code == 2
    assert "An envelope names its own group: give --envelope or --group-field." in refused.err

"""`produce` into a full queue, and of messages that stand for others."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.console import Run, Shop
from tests.cli.test_produce import lines_file


def test_lines_that_a_full_queue_sheds_are_counted(run: Run, shop: Shop, tmp_path: Path) -> None:
    shop.store.declare_queue("orders", {"max_backlog": 3, "on_full": 2})
    sent = run("produce", lines_file(tmp_path, *"12345"), "--queue", "orders", "--json")
    assert (sent.code, sent.json["sent"], sent.json["shed"]) == (0, 3, 2)
    assert "Sent 3 messages to orders, shed 2 because it was full in " in sent.err


def test_a_full_queue_ends_the_run_and_says_how_far_it_came(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    shop.store.declare_queue("orders", {"max_backlog": 3})
    file = lines_file(tmp_path, *"12345")
    sent = run("produce", file, "--queue", "orders", "--batch-size", 2)
    assert sent.code == 5
    assert "Queue 'orders' is full: it stores 2 messages, its max_backlog is 3" in sent.err
    assert "2 messages were sent before it and stay sent." in sent.err


def test_an_envelope_has_the_options_that_concern_other_messages(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    lines = [
        {"body": 1, "deduplication_id": "d"},
        {"body": 2, "deduplication_id": "d"},
        {"body": 3, "replace_key": "k"},
        {"body": 4, "replace_key": "k", "debounce": 60, "max_wait": 90},
    ]
    file = lines_file(tmp_path, *map(json.dumps, lines))
    assert run("produce", file, "--queue", "orders", "--envelope").code == 0
    assert shop.bodies() == [1, 4]
    counters = shop.queue.info().counters
    assert (counters.deduplicated, counters.replaced) == (1, 1)
    assert run("show", "3").code == run("explain", "3").code == 0
    (ended,) = run("explain", "3", "--json").json["because"]
    assert ended.startswith(
        "It has ended: replaced by a newer message with its replace_key, 4, "
    ), ended


def test_an_envelope_whose_options_contradict_is_a_bad_line(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    file = lines_file(tmp_path, '{"body": 1, "debounce": 5}')
    refused = run("produce", file, "--queue", "orders", "--envelope")
    assert refused.code == 1
    assert "Line 1: debounce delays a message" in refused.err
    assert shop.bodies() == []

"""`produce` into a full queue."""

from __future__ import annotations

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

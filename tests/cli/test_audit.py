"""`audit`: counters that reconcile with the messages, and each kind of difference."""

from __future__ import annotations

import pytest

from tests.cli.console import Run, Shop
from tests.cli.findings import OF_ORDERS, findings, levels
from tests.engine import plain

AUDITED = [
    *("counters", "moved", "messages_without_queue", "queues_without_pair"),
    *("queues_without_counters", "keys_without_owner", "leases_without_worker"),
    *("records_without_queue", "schedules_without_queue", "history_without_queue"),
    *("documents_without_queue", "attempts_without_queue", "items_without_table"),
    "dead_letters_misgrouped",
    *("queues_with_other_bytes", "groups_with_other_counts"),
    *("groups_stranded", "messages_out_of_turn"),
]


def test_counters_that_reconcile(run: Run, shop: Shop) -> None:
    shop.complete(key="k")
    shop.bury(key="dead")
    shop.queue.send("a", key="in progress")
    shop.queue.receive()
    shown = run("audit", "--json")
    assert (shown.code, shown.err) == (0, "")
    assert list(findings(shown)) == AUDITED
    assert levels(shown, "ok") == set(AUDITED)
    counters = [found for found in shown.json["findings"] if found["check"] == "counters"]
    assert [found["queue"] for found in counters] == ["orders", "orders-dlq"]
    names = {found["check"]: found["name"] for found in shown.json["findings"]}
    assert (names["counters"], names["moved"]) == ("books", "moves")  # deprecated, until 0.3
    assert all(names[check] == check for check in AUDITED[2:])
    words = run("audit")
    assert words.code == 0
    assert words.lines[0].split() == [
        "ok",
        "counters",
        "orders:",
        "1",
        "messages,",
        "as",
        "its",
        "counters",
        "say",
    ]


@pytest.mark.parametrize(
    ("name", "damage", "what"),
    [
        ("counters", "UPDATE durableq_counters SET sent = 9 WHERE " + OF_ORDERS, "5 too few"),
        ("counters", "DELETE FROM durableq_message WHERE key IS NULL", "1 too few"),
        ("messages_without_queue", "UPDATE durableq_message SET queue_id = 77", "2 messages of"),
        (
            "queues_without_pair",
            "UPDATE durableq_queue SET dead_letter_queue_id = 77 WHERE name = 'orders'",
            "1 queues whose",
        ),
        (
            "queues_without_counters",
            "DELETE FROM durableq_counters WHERE " + OF_ORDERS,
            "1 queues whose counters",
        ),
        (
            "keys_without_owner",
            "UPDATE durableq_idempotency SET owner_receipt = zeroblob(16) WHERE status = 0",
            "1 keys in progress",
        ),
        (
            "leases_without_worker",
            "UPDATE durableq_message SET owner_id = (1 << 40) + 7 WHERE state = 1",
            "1 leases of a worker",
        ),
        ("records_without_queue", "UPDATE durableq_idempotency SET queue_id = 77", "2 idempotency"),
        ("history_without_queue", "UPDATE durableq_history SET queue_id = 77", "2 events"),
        (
            "documents_without_queue",
            "INSERT INTO durableq_queue_document VALUES (77, '{}', '{}', 0, 0, 1)",
            "1 attributes and tags over SQS",
        ),
        (
            "attempts_without_queue",
            "INSERT INTO durableq_receive_attempt VALUES (77, 'a', x'00', '[]', 0, 0)",
            "1 receives over SQS",
        ),
        (
            "items_without_table",
            "INSERT INTO durableq_item (table_id, pk, sk, item) VALUES (0, '', '', '{}'), "
            "(7, '', '', '{}')",
            "1 items of a table",
        ),
        (
            "groups_stranded",
            "UPDATE durableq_message SET state = 3, group_id = 'a'",
            "1 groups whose blocked messages wait for nothing",
        ),
        (
            "messages_out_of_turn",
            "UPDATE durableq_queue SET limits = 16; UPDATE durableq_message SET group_id = 'a', "
            "sequence = CASE state WHEN 1 THEN 1 ELSE 9 END, "
            "state = CASE state WHEN 1 THEN 3 ELSE 0 END",
            "1 messages before which one of their group is blocked",
        ),
        (
            "queues_with_other_bytes",
            "UPDATE durableq_counters SET backlog_bytes = 1; UPDATE durableq_queue SET limits = 64",
            "queues that store another number of bytes",
        ),
        (
            "groups_with_other_counts",
            "UPDATE durableq_queue SET limits = 16; UPDATE durableq_message SET group_id = 'a'",
            "1 groups that have another number of messages",
        ),
    ],
)
def test_each_difference_is_counted(
    run: Run, shop: Shop, name: str, damage: str, what: str
) -> None:
    shop.complete(key="k")
    shop.bury()
    shop.store.purge(shop.dead)
    shop.queue.send("a", key="in progress")
    shop.queue.receive()
    shop.queue.send("b")
    plain.script(shop.path, damage)
    shown = run("audit", "--json")
    assert (shown.code, shown.json["healthy"]) == (6, False)
    bad = [found for found in shown.json["findings"] if found["level"] == "bad"]
    assert any(found["check"] == name and what in found["what"] for found in bad)
    words = run("audit")
    assert words.code == 6
    assert any(line.startswith("bad") and name in line for line in words.lines)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("burial_fingerprint = 'another'", id="fingerprint"),
        pytest.param("burial_fingerprint = NULL", id="no fingerprint"),
        pytest.param("burial_reason = 'rejected'", id="reason"),
        pytest.param("burial_reason = NULL", id="no reason"),
    ],
)
def test_a_dead_letter_in_a_wrong_group_is_counted(run: Run, shop: Shop, wrong: str) -> None:
    message_id = shop.bury()
    shop.bury()
    plain.script(shop.path, f"UPDATE durableq_message SET {wrong} WHERE id = {message_id}")
    shown = run("audit", "--json")
    assert shown.code == 6
    assert levels(shown, "bad") == {"dead_letters_misgrouped"}
    assert "1 dead letters in another" in findings(shown)["dead_letters_misgrouped"]["what"]
    assert sum(group["count"] for group in run("dlq", "groups", "--json").rows) == 2


def test_a_dead_letter_whose_history_has_lost_the_burial_is_in_its_group(
    run: Run, shop: Shop
) -> None:
    shop.bury()
    [before] = run("dlq", "groups", "--json").rows
    plain.script(shop.path, "DELETE FROM durableq_history")
    assert run("audit").code == 0
    [group] = run("dlq", "groups", "--json").rows
    assert (group["fingerprint"], group["count"]) == (before["fingerprint"], 1)


def test_moved_messages_that_did_not_arrive_are_a_warning(run: Run, shop: Shop) -> None:
    shop.bury()
    plain.script(
        shop.path,
        "UPDATE durableq_counters SET moved_out = moved_out + 1, sent = sent + 1 "
        "WHERE " + OF_ORDERS,
    )
    shown = run("audit", "--json")
    assert shown.code == 0
    assert levels(shown, "warn") == {"moved"}


def test_a_missing_file_is_not_audited(run: Run) -> None:
    assert run("audit").code == 3
    assert run("doctor", "--db", "memory://").code == 1

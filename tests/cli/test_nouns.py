"""`queue`, `dlq`, `idempotency`: the commands of a person."""

import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from durableq import Reject
from durableq.model.settings import LIMIT_SETTINGS, SETTINGS, Kind, QueueSettings, changes_from
from tests.cli.console import Run, Shop, environment, warm
from tests.engine import plain
from tests.support import scaled, wait_for


def on_terminal(answer: str, *arguments: str, cwd: Path) -> tuple[int, str]:
    """Run the command on a terminal of its own, answer its question; return code and screen."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*warm(), *arguments],
        cwd=cwd,
        env=environment(TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as child:
        os.close(theirs)
        screen = bytearray()

        def asked() -> bool:
            screen.extend(os.read(ours, 1 << 16))
            return b"[y/N]" in screen

        wait_for(asked, seconds=30, what="the question")
        os.write(ours, answer.encode() + b"\n")
        child.wait(scaled(30))
    screen.extend(os.read(ours, 1 << 16))
    os.close(ours)
    return child.returncode, screen.decode()


# ---- queue


def test_a_queue_is_created_changed_listed_and_deleted(run: Run) -> None:
    made = run("queue", "create", "mail", "--visibility-timeout", 1.5, "--max-receives", 5)
    assert made.code == 0
    assert made.lines[0] == "mail: created, with mail-dlq."
    assert run("queue", "set", "mail", "--delay", 2, "--max-body-bytes", 100).code == 0
    mail, dead = run("queue", "list", "--json").rows
    assert dead["name"] == "mail-dlq"
    changed = {
        "visibility_timeout_ms": 1500,
        "max_receives": 5,
        "delay_ms": 2000,
        "max_body_bytes": 100,
    }
    assert mail["settings"] == mail["settings"] | changed
    shown = run("queue", "list").out
    assert "1.5 s" in shown
    assert "1209600 s" in shown, "the default retention, as --retention takes it"
    assert run("queue", "delete", "mail", "--yes").code == 0
    assert run("queue", "list", "--json").rows == []


def test_every_setting_has_its_option(run: Run) -> None:
    names = ("visibility_timeout", "delay", "retention", "backoff_base", "backoff_max")
    options = {f"{name}_ms": 7000 for name in (*names, "idempotency_ttl")}
    options |= {"max_receives": 7, "max_recoveries": 7, "max_body_bytes": 7}
    given = [
        part for name in options for part in ("--" + name.removesuffix("_ms").replace("_", "-"), 7)
    ]
    created = run("queue", "create", "q", *given, "--json").json["settings"]
    assert created == QueueSettings().as_dict() | options


def test_every_limit_has_its_option(run: Run) -> None:
    given: list[str] = []
    stored: dict[str, float] = {}
    for name in LIMIT_SETTINGS:
        setting = SETTINGS[name]
        value: Any = 20
        if setting.kind is Kind.SWITCH:
            value = "on"
        elif setting.kind is Kind.CHOICE:
            value = setting.names[-1]
        elif setting.kind is Kind.SHARE:
            value = 0.25
        option = name.removesuffix("_ms")
        given += ["--" + option.replace("_", "-"), str(value)]
        options: Any = {option: True if value == "on" else value}
        stored |= changes_from(**options)
    created = run("queue", "create", "q", *given, "--json").json["settings"]
    assert created == QueueSettings().as_dict() | stored
    assert "rate 20, burst 20, max_in_flight 20" in run("queue", "list").out


def test_a_limit_is_switched_off_on_the_command_line(run: Run) -> None:
    assert run("queue", "create", "q", "--rate", "5").code == 0
    assert run("queue", "set", "q", "--rate", "off", "--json").json["settings"]["rate"] == 0
    refused = run("queue", "set", "q", "--rate", "0")
    assert (refused.code, "off" in refused.err) == (2, True)
    refused = run("queue", "set", "q", "--rate", "fast")
    assert "--rate takes a number a second, or off, got 'fast'" in refused.err


def test_creating_again_changes_nothing_or_is_refused(run: Run) -> None:
    assert run("queue", "create", "mail", "--max-receives", 5).code == 0
    again = run("queue", "create", "mail", "--max-receives", 5)
    assert (again.code, again.lines[0]) == (0, "mail: exists already.")
    other = run("queue", "create", "mail", "--max-receives", 6)
    assert other.code == 5
    assert "Change them with `durableq queue set mail`." in other.err
    assert run("queue", "list", "--json").rows[0]["settings"]["max_receives"] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["create", "a b"], 2, "A queue's name has"),
        (["create", "a", "--max-receives", "0"], 2, "max_receives is more than 0"),
        (["create", "a", "--delay", "-1"], 2, "a number of seconds of at least 0"),
        (["create", "a", "--delay", "nan"], 2, "a number of seconds of at least 0"),
        (["set", "orders"], 2, "Give a setting to change"),
        (["set", "a", "--delay", "1"], 3, "There is no queue 'a'"),
        (["purge", "a", "--yes"], 3, "There is no queue 'a'"),
        (["delete", "a", "--yes"], 3, "There is no queue 'a'"),
        (["delete", "orders-dlq", "--yes"], 5, "is the dead-letter queue of 'orders'"),
        (["delete", "orders", "--yes"], 5, "still holds messages"),
        (["purge", "orders"], 2, "There is no terminal to ask on: confirm with --yes"),
        (["delete", "orders"], 2, "There is no terminal to ask on: confirm with --yes"),
    ],
)
def test_each_mistake_with_a_queue_has_its_exit_code(
    arguments: list[str], code: int, why: str, run: Run, shop: Shop
) -> None:
    shop.queue.send("kept")
    shown = run("queue", *arguments)
    assert (shown.code, shown.out) == (code, "")
    assert why in shown.err
    assert shop.bodies() == ["kept"]
    assert [info.name for info in shop.store.queues()] == ["orders", "orders-dlq"]


def test_purging_removes_only_messages(run: Run, shop: Shop) -> None:
    shop.bury()
    shop.queue.send_many(range(3))
    shop.queue.receive()
    assert run("queue", "purge", "orders", "--yes").lines == ["Purged 3 messages of orders."]
    assert (shop.bodies(), len(shop.dead_ids())) == ([], 1)


def test_a_queue_with_messages_is_deleted_by_force(run: Run, shop: Shop) -> None:
    shop.queue.send("b")
    assert run("queue", "delete", "orders", "--force", "--yes").code == 0
    assert shop.store.queues() == []


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 1), ("", 1, 1), ("y", 0, 0)])
def test_on_a_terminal_a_question_is_asked(
    answer: str, code: int, left: int, shop: Shop, tmp_path: Path
) -> None:
    shop.queue.send("b")
    ended, screen = on_terminal(answer, "queue", "purge", "orders", cwd=tmp_path)
    assert (ended, len(shop.bodies())) == (code, left)
    assert "Remove all 1 message of queue orders, for good?" in screen
    assert ("Nothing was changed." in screen) == (code == 1)


# ---- dlq


def buried(shop: Shop) -> dict[str, str]:
    """Dead letters of two queues, with three errors and two reasons."""
    other = Shop(shop.path, "mail")
    ids = {
        "boom": shop.bury("a", ValueError("boom")),
        "late": shop.bury("b", TimeoutError("late")),
        "bad": shop.bury("c", Reject("bad")),
        "mail": other.bury("d", TimeoutError("later")),
    }
    other.dq.close()
    return ids


FILTERS = [
    (["--queue", "orders"], {"boom", "late", "bad"}),
    (["--queue", "mail"], {"mail"}),
    (["--queue", "mail-dlq"], {"mail"}),
    (["--error-type", "TimeoutError"], {"late", "mail"}),
    (["--reason", "rejected"], {"bad"}),
    (["--queue", "orders", "--error-type", "TimeoutError"], {"late"}),
    (["--error-type", "KeyError"], set()),
]


@pytest.mark.parametrize(("options", "names"), FILTERS)
def test_filters_choose_the_same_dead_letters_everywhere(
    options: list[str], names: set[str], run: Run, shop: Shop
) -> None:
    ids = buried(shop)
    chosen = {ids[name] for name in names}
    assert {
        dead_letter["id"] for dead_letter in run("dlq", "list", *options, "--json").rows
    } == chosen
    move = run("dlq", "discard", *options, "--yes", "--json").json["redrive_task"]
    assert (move["state"], move["moved"], move["skipped"]) == ("done", len(chosen), 0)
    left = {dead_letter["id"] for dead_letter in run("dlq", "list", "--json").rows}
    assert left == set(ids.values()) - chosen


def test_a_queue_may_be_an_argument(run: Run, shop: Shop) -> None:
    for command in (["peek"], ["idempotency", "list"], ["dlq", "list"], ["dlq", "groups"]):
        assert run(*command, "orders").code == 0
        assert run(*command, "post").code == 3


def test_a_private_dead_letter_queue_stands_for_its_queue(run: Run, shop: Shop) -> None:
    """An ordinary one has dead letters of its own."""
    dead = shop.bury("a")
    for name in ("orders", "orders-dlq"):
        assert [row["id"] for row in run("dlq", "list", name, "--json").rows] == [dead]
    shop.store.declare_queue("orders-dlq", {"dead_letter_queue": None})
    assert run("dlq", "list", "orders-dlq", "--json").rows == []
    assert [row["id"] for row in run("dlq", "list", "orders", "--json").rows] == [dead]


def test_a_list_pages_over_all_dead_letter_queues_in_order(run: Run, shop: Shop) -> None:
    other = Shop(shop.path, "mail")
    ids = [(shop, other)[number % 2].bury(number) for number in range(5)]
    other.dq.close()
    first = run("dlq", "list", "--limit", 2, "--json").rows
    rest = run("dlq", "list", "--after", first[-1]["id"], "--json").rows
    assert [dead_letter["id"] for dead_letter in first + rest] == ids[::-1]


def test_show_has_the_history_of_dead_letters_only(run: Run, shop: Shop) -> None:
    dead_letter_id = shop.bury({"order": 7}, Reject("no such card"))
    alive = shop.queue.send("b")
    shown = run("dlq", "show", dead_letter_id, "--json").json
    assert (shown["reason"], shown["source_queue"]) == ("rejected", "orders")
    assert "Reject: no such card" in run("dlq", "show", dead_letter_id).out
    missing = run("dlq", "show", alive)
    assert missing.code == 3
    assert f"There is no dead letter {alive}. `durableq show {alive}` shows" in missing.err


def test_a_body_of_a_type_that_no_sender_stores_is_shown_as_it_is(run: Run, shop: Shop) -> None:
    message_id = shop.bury()
    plain.script(shop.path, f"UPDATE durableq_message SET body = 7 WHERE id = {message_id}")
    assert run("dlq", "list").lines[-1].split()[-1] == "7"
    assert run("dlq", "show", message_id, "--json").json["body_text"] == 7


def test_redriving_sends_dead_letters_back_with_their_history(run: Run, shop: Shop) -> None:
    dead_letter_id = shop.bury({"order": 7}, key="k")
    redriven = run("dlq", "redrive", dead_letter_id, "--delay", 60, "--note", "card was renewed")
    assert (redriven.code, redriven.lines) == (0, ["Redriven 1 dead letter."])
    message = run("show", dead_letter_id, "--json").json
    assert (message["queue"], message["state"], message["body"]) == (
        "orders",
        "delayed",
        {"order": 7},
    )
    last = message["history"][-1]
    assert (last["event"], last["reason"]) == ("requeued", "card was renewed")
    assert last["actor"].startswith("person (")


def test_a_held_dead_letter_is_a_persons_to_decide(run: Run, shop: Shop) -> None:
    from durableq import Hold

    dead_letter_id = shop.bury()
    receipt = shop.store.receive(shop.dead, 1).messages[0].receipt
    shop.store.decide([(receipt, Hold("look"))])
    assert "held" in run("dlq", "list").out
    assert "held in orders-dlq for a person's decision" in run("dlq", "show", dead_letter_id).out
    assert run("dlq", "redrive", dead_letter_id).code == 0
    assert shop.bodies() == ["b"]


def test_hundreds_are_decided_in_pages(run: Run, shop: Shop) -> None:
    shop.queue.send_many(range(250))
    for delivery in shop.queue.receive(250):
        delivery.fail("boom")
    assert run("dlq", "redrive", "--all").lines == ["Redriven 250 dead letters."]
    assert (len(shop.bodies()), shop.dead_ids()) == (250, [])


def test_a_decision_about_no_dead_letters_is_a_success(run: Run, shop: Shop) -> None:
    assert run("dlq", "redrive", "--all").lines == ["Redriven 0 dead letters."]
    assert run("dlq", "discard", "--all").code == 0


@pytest.mark.parametrize("verb", [["redrive"], ["discard", "--yes"]])
@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ([], "Choose the dead letters: by id, by --queue, --reason or --error-type"),
        (["1", "--all"], "Dead letters are named by id already: leave out --all, or the ids."),
        (["1", "--queue", "orders"], "leave out --queue, or the ids."),
        (
            ["--all", "--queue", "orders"],
            "--all means every dead letter, --queue only some: leave out --all to choose",
        ),
        (["--all", "--reason", "rejected", "--older-than", "0"], "--reason and --older-than only"),
    ],
)
def test_dead_letters_are_chosen_in_one_way_and_a_refusal_says_why(
    verb: list[str], choice: list[str], why: str, run: Run, shop: Shop
) -> None:
    shop.bury()
    shown = run("dlq", *verb, *choice)
    assert shown.code == 2
    assert why in shown.err
    assert len(shop.dead_ids()) == 1


def test_the_receives_of_a_dead_letter_are_those_before_it_died(run: Run, shop: Shop) -> None:
    rejected = shop.bury("x", Reject("no"))
    assert "1 before it died, 0 since" in run("show", rejected).out
    assert "1 before it died, 0 since" in run("dlq", "show", rejected).out
    shop.complete("y", key="k")
    conflict = shop.queue.send("another", key="k")
    assert shop.queue.receive() == []
    assert "1 before it died, 0 since" in run("show", conflict).out
    run("dlq", "redrive", rejected)
    shop.queue.receive()[0].reject("again")
    assert "1 before it died, 0 since" in run("show", rejected).out
    for words in (["show"], ["dlq", "show"]):
        assert run(*words, rejected, "--json").json["receives_before_death"] == 1
    waiting = shop.queue.send("z")
    assert run("show", waiting, "--json").json["receives_before_death"] is None
    assert [line.split() for line in run("show", waiting).lines if "receives" in line] == [
        ["receives", "0"]
    ]


@pytest.mark.parametrize("verb", [["redrive"], ["discard", "--yes"]])
def test_an_unknown_id_changes_nothing(verb: list[str], run: Run, shop: Shop) -> None:
    dead_letter_id = shop.bury()
    for unknown in ("999", "x", shop.queue.send("alive")):
        shown = run("dlq", *verb, dead_letter_id, unknown)
        assert (shown.code, shown.out) == (3, "")
        assert f"There is no dead letter {unknown}." in shown.err
    assert shop.dead_ids() == [dead_letter_id]


@pytest.mark.parametrize("verb", [["redrive"], ["discard", "--yes"]])
def test_dead_letters_of_a_recovery_process_are_left_to_it(
    verb: list[str], run: Run, shop: Shop
) -> None:
    taken, free = shop.bury(1), shop.bury(2)
    (held,) = shop.store.receive(shop.dead, 1).messages
    assert held.id == taken
    one = run("dlq", *verb, taken)
    assert one.code == 5
    assert f"because a recovery process or another person has leased them: {taken}." in one.err
    both = run("dlq", *verb, "--all", "--json")
    assert both.code == 5
    move = both.json["redrive_task"]
    assert (move["moved"], move["skipped"]) == (1, 1)
    assert "1 were left, because a recovery process or another person had leased them" in both.err
    assert free not in shop.dead_ids()
    assert shop.store.extend([held.receipt], 1000)[0].value == "done"


def test_discarding_one_dead_letter_asks_too(run: Run, shop: Shop) -> None:
    dead_letter_id = shop.bury()
    shown = run("dlq", "discard", dead_letter_id)
    assert shown.code == 2
    assert f"Discard dead letter {dead_letter_id}, for good? There is no terminal" in shown.err
    assert shop.dead_ids() == [dead_letter_id]


# ---- idempotency


def test_an_idempotency_record_can_be_shown_and_forgotten(run: Run, shop: Shop) -> None:
    message_id = shop.complete({"a": 1}, {"paid": 120}, key="order-7")
    found = run("idempotency", "get", "order-7", "--json").json
    assert found == found | {
        "key": "order-7", "status": "completed", "message_id": message_id, "result": {"paid": 120}
    }  # fmt: skip
    assert '{"paid":120}' in run("idempotency", "get", "order-7").out
    assert run("idempotency", "forget", "order-7").lines == ["Forgot key order-7 of queue orders."]
    for verb in ("get", "forget"):
        missing = run("idempotency", verb, "order-7")
        assert (missing.code, missing.out) == (3, "")
        assert "Nothing is remembered of key 'order-7' in queue 'orders'." in missing.err


def test_keys_are_listed_in_pages(run: Run, shop: Shop) -> None:
    for name in "abc":
        shop.complete(key=name)
    first = run("idempotency", "list", "--limit", 2, "--json").rows
    rest = run("idempotency", "list", "--after", first[-1]["key"], "--json").rows
    assert [record["key"] for record in first + rest] == ["a", "b", "c"]
    assert run("idempotency", "list").lines[1].split()[:2] == ["a", "completed"]


def test_a_key_in_progress_is_not_forgotten(run: Run, shop: Shop) -> None:
    shop.queue.send("b", key="k")
    shop.queue.receive()
    assert run("idempotency", "get", "k", "--json").json["status"] == "in_progress"
    shown = run("idempotency", "forget", "k")
    assert shown.code == 5
    assert "Key 'k' of queue 'orders' is in progress" in shown.err


def test_pruning_reports_the_removed_rows(run: Run, shop: Shop) -> None:
    shop.dq.queue("orders", idempotency_ttl=0.001)
    shop.complete(key="k")
    wait_for(lambda: shop.queue.record("k") is None, what="the record to expire")
    pruned = run("idempotency", "prune", "--json").json
    nothing = {"expired": 0, "history": 0, "values": 0, "items": 0, "others": 0}
    assert pruned == {"schema": 1, "records": 1, **nothing}

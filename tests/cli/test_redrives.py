"""Groups of dead letters, and redrive tasks: one decision about many, applied in slices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Requeue
from durableq.admin import redriving
from durableq.engines.sql.redrive_steps import PAGE
from durableq.model.dead_letters import DeadLetterFilter, WholeQueue
from tests.cli.console import COMMAND, Run, Shop, environment, warm
from tests.engine import plain
from tests.support import scaled, sizes_of_steps, wait_for

DEAD_LETTERS = 4_000


def bury_many(path: Path, number: int) -> None:
    """Put dead letters into a queue, as if each had failed once."""
    with DurableQ(path) as dq:
        queue = dq.queue("orders", max_receives=1)
        for start in range(0, number, 1000):
            queue.send_many(range(start, min(start + 1000, number)))
        while deliveries := queue.receive(1000):
            failures = [(d.receipt, failure()) for d in deliveries]
            dq.store.fail(failures, actor="test")


def failure() -> Any:
    from durableq.model.message import Failure, Reason

    return Failure(Reason.HANDLER_ERROR, "ConnectionError", "bank 7 is away")


def test_groups_count_dead_letters_by_cause(run: Run, shop: Shop) -> None:
    def charge() -> None:
        raise TimeoutError("no answer in 30 s to order 17")

    for number in range(3):
        try:
            charge()
        except TimeoutError as error:
            error.args = (f"no answer in {number} s to order {number}",)
            shop.bury(number, error)
    other = shop.bury("x", ValueError("boom"))
    timeouts, boom = run("dlq", "groups", "--json").rows
    assert (timeouts["count"], timeouts["error_type"], timeouts["place"]) == (
        3,
        "TimeoutError",
        "test_redrives.py:charge",
    )
    assert (boom["count"], boom["example_id"], boom["reason"]) == (1, other, "handler_error")
    shown = run("dlq", "groups", "--queue", "orders")
    assert timeouts["fingerprint"] in shown.lines[1]
    chosen = run("dlq", "list", "--group", timeouts["fingerprint"], "--json").rows
    assert [dead_letter["fingerprint"] for dead_letter in chosen] == [timeouts["fingerprint"]] * 3
    assert run("dlq", "redrive", "--group", timeouts["fingerprint"]).lines == [
        "Redriven 3 dead letters."
    ]
    assert shop.dead_ids() == [other]


def test_dead_letters_are_chosen_by_age(run: Run, shop: Shop) -> None:
    old = shop.bury("old")
    plain.script(
        shop.path,
        "UPDATE durableq_message SET enqueued_at_ms = enqueued_at_ms - 9000000;"
        "UPDATE durableq_history SET at_ms = at_ms - 9000000",
    )
    young = shop.bury("young")
    listed = run("dlq", "list", "--older-than", 3600, "--json").rows
    assert [dead_letter["id"] for dead_letter in listed] == [old]
    assert run("dlq", "discard", "--older-than", 3600, "--yes").code == 0
    assert shop.dead_ids() == [young]


def test_a_step_ends_when_its_time_is_over(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redriving, "REDRIVE_STEP_MS", 0)
    for number in range(25):
        shop.bury(number)
    sizes = sizes_of_steps(monkeypatch)
    assert run("dlq", "redrive", "--all").lines == ["Redriven 25 dead letters."]
    assert sizes == [PAGE, PAGE, 5]


def test_the_list_of_redrive_tasks_names_each_destination(run: Run, shop: Shop) -> None:
    shop.dq.queue("repaired")
    for arguments in (["discard", "--yes"], ["redrive"], ["redrive", "--to", "repaired"]):
        shop.bury()
        assert run("dlq", arguments[0], "--all", *arguments[1:]).code == 0
    rows = [line.split("  ") for line in run("dlq", "redrives").lines[1:]]
    gone = [[cell.strip() for cell in row if cell][3] for row in rows]
    assert gone == ["repaired", "where they died", "-"]


def test_a_redrive_task_of_a_whole_queue_is_shown_and_its_failure_told(
    run: Run, shop: Shop
) -> None:
    shop.bury()
    shop.dq.queue("repaired")
    task = shop.store.start_redrive(WholeQueue("orders-dlq"), Requeue(), to_queue="repaired")
    shop.store.delete_queue("repaired")
    (row,) = run("dlq", "redrives").lines[1:]
    assert "requeue   all of orders-dlq  repaired  running" in row
    resumed = run("dlq", "resume")
    assert resumed.code == 5
    assert (
        f"Redrive task {task.id} has failed: its target queue was deleted. 0 of 1 were moved."
        in resumed.err
    )
    (document,) = run("dlq", "redrives", "--json").rows
    assert (document["state"], document["failure"]) == ("failed", "no_target")
    assert document["wanted"]["whole_queue"] == "orders-dlq"
    assert document["wanted"]["queue"] is None


def test_a_redrive_task_may_name_another_queue(run: Run, shop: Shop) -> None:
    shop.bury("a")
    shop.dq.queue("repaired")
    assert run("dlq", "redrive", "--all", "--to", "repaired").code == 0
    assert [m.queue for m in shop.store.peek("repaired", 10)] == ["repaired"]
    assert run("dlq", "redrive", "--all", "--to", "nowhere").code == 3
    with_ids = run("dlq", "redrive", shop.bury("b"), "--to", "repaired")
    assert with_ids.code == 2
    assert "--to goes with a filter or --all" in with_ids.err


def test_a_redrive_task_killed_half_way_is_resumed_and_sends_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "durableq.db"
    bury_many(path, DEAD_LETTERS)
    moved = "SELECT count(*) FROM durableq_message WHERE source_queue_id IS NULL"
    command = [*COMMAND, "dlq", "redrive", "--queue", "orders"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment()) as child:
        wait_for(lambda: plain.one(path, moved) >= 1000, what="some letters to have moved")
        os.kill(child.pid, signal.SIGKILL)
    half = plain.one(path, moved)
    assert 0 < half < DEAD_LETTERS, "it was not killed half way"
    task = json.loads(durableq(tmp_path, "dlq", "redrives", "--json"))
    assert (task["state"], task["moved"], task["total"]) == ("running", half, DEAD_LETTERS)
    finished = json.loads(durableq(tmp_path, "dlq", "resume", "--json"))["redrive_task"]
    assert (finished["state"], finished["moved"]) == ("done", DEAD_LETTERS)
    assert plain.one(path, moved) == DEAD_LETTERS
    times = "SELECT max(n) FROM (SELECT count(*) AS n FROM durableq_history "
    times += "WHERE event = 'requeued' GROUP BY message_id)"
    assert plain.one(path, times) == 1
    assert plain.counters(path, "orders")["sent"] == DEAD_LETTERS
    plain.check_sound(path)


def durableq(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(
        [*warm(), *arguments], cwd=folder, env=environment(), check=True, capture_output=True
    ).stdout


def test_a_redrive_task_can_be_cancelled_or_resumed_only_while_it_runs(
    run: Run, shop: Shop
) -> None:
    for number in range(3):
        shop.bury(number)
    task = shop.store.start_redrive(DeadLetterFilter(), Requeue("again"), actor="test")
    shop.store.continue_redrive(task.id, 1)
    cancelled = run("dlq", "cancel")
    assert cancelled.lines == [f"Redrive task {task.id}: cancelled, 1 of 3 done."]
    assert run("dlq", "resume", task.id).lines == ["Redriven 1 dead letter."]
    assert len(shop.dead_ids()) == 2
    nothing = run("dlq", "resume")
    assert nothing.code == 2
    assert "Name the redrive task; running: none." in nothing.err
    assert run("dlq", "resume", "999").code == 3
    assert "cancelled" in run("dlq", "redrives").out


@pytest.mark.parametrize("option", [["--older-than", "-1"], ["--reason", "boredom"]])
def test_a_filter_that_makes_no_sense_is_refused(option: list[str], run: Run, shop: Shop) -> None:
    assert run("dlq", "redrive", *option).code == 2


def test_the_names_of_release_0_1_still_work(run: Run, shop: Shop) -> None:
    shop.bury()
    done = run("dlq", "redrive", "--all", "--json").json
    assert done["move"] == done["redrive_task"]
    assert run("dlq", "moves", "--json").rows == run("dlq", "redrives", "--json").rows
    (task,) = run("dlq", "moves", "--json").rows
    assert (task["verdict"], task["note"]) == (task["decision"]["name"], task["decision"]["reason"])
    for queue in run("queue", "list", "--json").rows:
        assert queue["totals"] == queue["counters"]


@pytest.mark.parametrize("verb", ["redrive", "discard"])
def test_an_empty_note_is_refused(verb: str, run: Run, shop: Shop) -> None:
    dead = shop.bury()
    refused = run("dlq", verb, dead, "--note", "")
    assert (refused.code, refused.out) == (2, "")
    assert "'--note': it is empty" in refused.err
    assert shop.dead_ids() == [dead]


def test_a_redrive_with_a_rate_takes_its_time_and_ends(run: Run, shop: Shop) -> None:
    bury_many(shop.path, 40)
    began = time.monotonic()
    done = run("dlq", "redrive", "--all", "--rate", 50, "--json")
    took_seconds = time.monotonic() - began
    assert (done.code, done.json["redrive_task"]["moved"]) == (0, 40)
    assert done.json["redrive_task"]["rate"] == 50
    assert took_seconds >= (40 - 5) / 50
    assert "40 dead letters, at most 50/s, so about 800 ms. To change the rate:" in done.err
    assert " 50/s " in run("dlq", "redrives").lines[1]


def test_the_rate_of_a_running_redrive_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "durableq.db"
    bury_many(path, 50)
    moved = "SELECT count(*) FROM durableq_message WHERE source_queue_id IS NULL"
    command = [*COMMAND, "dlq", "redrive", "--queue", "orders", "--rate", "0.01"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment()) as child:
        wait_for(lambda: plain.one(path, moved) == 1, what="the first to have moved")
        changed = json.loads(durableq(tmp_path, "dlq", "set", "--rate", "2000", "--json"))
        assert changed["redrive_task"]["rate"] == 2000
        assert child.wait(scaled(30)) == 0
    assert plain.one(path, moved) == 50


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["redrive", "--all", "--rate", "0"], "The rate of a redrive is a number of messages a"),
        (["redrive", "--all", "--rate", "nan"], "The rate of a redrive is a number of messages a"),
        (["redrive", "--all", "--rate", "-5"], "The rate of a redrive is a number of messages a"),
        (["redrive", "1", "--rate", "5"], "--rate goes with a filter or --all, not with ids."),
        (["set", "--rate", "fast"], "--rate takes a number of messages a second, or off, got"),
        (["set", "--rate", "0"], "The rate of a redrive is a number of messages a second from"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused(
    arguments: list[str], why: str, run: Run, shop: Shop
) -> None:
    dead = shop.bury()
    task = shop.store.start_redrive(DeadLetterFilter(), Requeue(), rate=3)
    refused = run("dlq", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert why in refused.err
    assert (shop.dead_ids(), shop.store.redrive_tasks()) == ([dead], [task])


def test_the_rate_of_a_redrive_that_has_ended_cannot_be_changed(run: Run, shop: Shop) -> None:
    task = run("dlq", "redrive", "--all", "--json").json["redrive_task"]
    refused = run("dlq", "set", task["id"], "--rate", 5)
    assert refused.code == 5
    assert f"Redrive task {task['id']} has ended (done), so its rate cannot be" in refused.err

"""`durableq message`: single messages are cancelled, delayed and run by a person."""

from datetime import UTC, datetime, timedelta

import pytest

from durableq import Reject
from tests.cli.console import Run, Shop

DONE = {"run-now": "ready", "reschedule": "rescheduled", "cancel": "cancelled"}


def test_messages_are_cancelled_and_their_history_says_who_did_it(run: Run, shop: Shop) -> None:
    first, second, left = shop.queue.send_many(["a", "b", "c"])
    done = run("message", "cancel", first, second, "--yes")
    assert (done.code, done.lines) == (0, ["Cancelled: 2 messages."])
    assert shop.bodies() == ["c"]
    shown = run("show", first)
    assert "ended: removed on request" in shown.out
    assert shown.lines[-1].split()[1:4] == ["cancelled", "orders", "person"]
    assert "removed on request by person (" in run("explain", second).out
    assert run("show", left, "--json").json["history"] == []
    [orders, _] = run("queue", "list", "--json").rows
    assert orders["counters"]["cancelled"] == 2
    assert run("audit").code == 0


def test_a_note_is_shown_with_the_change(run: Run, shop: Shop) -> None:
    first, second, third = shop.queue.send_many(["a", "b", "c"])
    run("message", "cancel", first, "--yes", "--note", "sent twice")
    run("message", "reschedule", second, "--delay", 60, "--note", "after the sale")
    shop.queue.cancel(third, note="from Python")
    assert run("show", first).lines[-1].endswith("sent twice")
    assert run("explain", first).out.rstrip().endswith(": sent twice.")
    assert run("show", second, "--json").json["history"][-1]["reason"] == "after the sale"
    assert "after the sale" in run("explain", second).out
    assert run("explain", third).out.rstrip().endswith(": from Python.")
    run("message", "run-now", second, "--note", "the sale is over")
    assert run("show", second).lines[-1].endswith("the sale is over")


def test_cancelling_asks_first(run: Run, shop: Shop) -> None:
    message_id = shop.queue.send("a")
    shown = run("message", "cancel", message_id)
    assert shown.code == 2
    assert f"Cancel message {message_id}, for good? There is no terminal" in shown.err
    assert "Cancel 2 messages, for good?" in run("message", "cancel", "1", "2", "1").err
    assert shop.bodies() == ["a"]


def test_refused_messages_are_named_and_the_others_are_changed(run: Run, shop: Shop) -> None:
    dead = shop.bury("dead", Reject("no"))
    leased = shop.queue.send("leased")
    shop.queue.receive()
    free = shop.queue.send("free")
    for verb in (["run-now"], ["reschedule", "--delay", "60"], ["cancel", "--yes"]):
        shown = run("message", *verb, leased, dead, free, "77", "--json")
        assert shown.code == 5
        (done, changed), (_, refused) = [*shown.json.items()][1:]
        assert (changed, refused) == ([free], {leased: "in_flight", dead: "dead", "77": "unknown"})
        assert done == DONE[verb[0]]
        assert f"Message {leased} is in flight: its receiver settles it" in shown.err
        assert f"Message {dead} is a dead letter: use `durableq dlq redrive`" in shown.err
        assert "1 of 4 was changed." in shown.err


@pytest.mark.parametrize("verb", [["cancel", "--yes"], ["run-now"], ["reschedule", "--delay", "1"]])
def test_one_message_that_is_not_there_is_not_found(verb: list[str], run: Run, shop: Shop) -> None:
    assert shop.bodies() == []
    for unknown in ("77", "x"):
        shown = run("message", *verb, unknown)
        assert shown.code == 3
        assert f"There is no message {unknown} in this database." in shown.err


def test_a_message_is_rescheduled_by_seconds_and_by_time(run: Run, shop: Shop) -> None:
    message_id = shop.queue.send("a")
    done = run("message", "reschedule", message_id, "--delay", 3600)
    assert (done.code, done.lines) == (0, ["Rescheduled: 1 message."])
    assert "(in 59 min), as it was rescheduled by person (" in run("explain", message_id).out
    at = datetime.now(UTC) + timedelta(days=2)
    local = at.astimezone().replace(tzinfo=None)
    for text in (at.isoformat(), local.isoformat()):
        assert run("message", "reschedule", message_id, "--at", text).code == 0
        until_ms = run("show", message_id, "--json").json["delayed_until_ms"]
        assert until_ms == round(at.timestamp() * 1000)
    assert run("message", "reschedule", message_id, "--at", "2020-01-01").code == 0
    assert run("show", message_id, "--json").json["state"] == "ready"


def test_a_delayed_message_runs_now(run: Run, shop: Shop) -> None:
    message_id = shop.queue.send("a", delay=3600)
    assert run("message", "run-now", message_id).lines == ["Ready: 1 message."]
    assert [message.id for message in shop.queue.receive()] == [message_id]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "Give either --delay or --at"),
        (["--delay", "1", "--at", "2027-01-01"], "Give either --delay or --at"),
        (["--at", "tomorrow"], "--at takes a time such as 2027-01-31T09:00 or"),
        (["--at", "9999-12-31T00:00Z"], "at most 366 days"),
        (["--delay", "nan"], "Invalid value for '--delay'"),
        (["--delay", "99999999"], "--delay is at most 31622400 seconds"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(
    options: list[str], why: str, run: Run, shop: Shop
) -> None:
    message_id = shop.queue.send("a")
    shown = run("message", "reschedule", message_id, *options)
    assert shown.code == 2
    assert why in shown.err
    assert run("show", message_id, "--json").json["state"] == "ready"


def test_hundreds_are_cancelled_in_pages(run: Run, shop: Shop) -> None:
    ids = shop.queue.send_many(range(250))
    done = run("message", "cancel", *ids, "--yes")
    assert (done.code, done.lines) == (0, ["Cancelled: 250 messages."])
    assert shop.bodies() == []

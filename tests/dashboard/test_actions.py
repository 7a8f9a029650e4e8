"""Actions change the store, on files and on PostgreSQL, and name who acted."""

import pytest

from durableq import DurableQ
from durableq.admin import redriving
from durableq.dashboard import Access
from durableq.engines.sql.redrive_steps import PAGE
from durableq.model.message import Failure, Message, Reason
from durableq.store.core import Capability
from tests.dashboard.client import Client
from tests.support import sizes_of_steps, wait_for


def bury(dq: DurableQ, number: int = 1, error: str = "ValueError") -> list[str]:
    """Send messages to `orders`, let them fail, and return their ids."""
    ids = dq.queue("orders").send_many([{"n": n} for n in range(number)])
    received = dq.store.receive("orders", number).messages
    failure = Failure(Reason.HANDLER_ERROR, error, "it failed", "Traceback: here", place="a.py:f")
    dq.store.fail([(one.receipt, failure) for one in received if one.receipt], actor="worker")
    return ids


def message(dq: DurableQ, message_id: str) -> Message | None:
    return dq.store.require(Capability.INSPECT).message(message_id)


def last_event(dq: DurableQ, message_id: str) -> tuple[str, str]:
    event = dq.store.require(Capability.DEAD_LETTERS).history(message_id)[-1]
    return str(event.event), event.actor


def test_both_engines_are_shown_and_changed(either: DurableQ) -> None:
    either.queue("orders").send({"n": 1})
    with Client.of(either) as client:
        assert "orders no worker 1 0 0" in client.page("/").text
        assert "orders is paused" in client.act("/queues/orders/pause").text
        assert either.store.settings("orders").paused
        assert "orders paused 1 0 0" in client.page("/").text
        assert "orders is resumed" in client.act("/queues/orders/resume").text
        (dead,) = bury(either)[:1]
        page = client.page("/dead-letters?queue=orders")
        assert "ValueError it failed · a.py:f orders handler error 1" in page.text
        assert "Message" in client.page(f"/messages/{dead}").text


def test_a_queue_is_purged_by_typing_its_name(dq: DurableQ, client: Client) -> None:
    dq.queue("orders").send_many([1, 2, 3])
    page = client.act("/queues/orders/purge", name="order")
    assert (page.status, "does not match" in page.text) == (400, True)
    assert dq.store.count_ready("orders", 10).number == 3
    assert "Purged 3 messages of orders." in client.act("/queues/orders/purge", name="orders").text
    assert dq.store.count_ready("orders", 10).number == 0


def test_a_message_is_rescheduled_run_and_cancelled(dq: DurableQ, client: Client) -> None:
    one = dq.queue("orders").send({"n": 1})
    page = client.act(f"/messages/{one}/reschedule", delay="3600")
    assert "delayed in orders" in page.text
    assert "as it was rescheduled by dashboard" in page.text
    assert "It is ready" in client.act(f"/messages/{one}/run-now").text
    page = client.act(f"/messages/{one}/cancel")
    assert "removed on request by dashboard" in page.text
    assert message(dq, one) is None


def test_the_history_names_who_acted(dq: DurableQ) -> None:
    (one,) = bury(dq)
    token = "a-token-of-sixteen-characters"
    with Client.of(dq, access=Access(tokens={token: "ada"})) as client:
        client.act("/login", token=token)
        page = client.act("/dead-letters/hold", id=one, note="look at <it>")
    assert last_event(dq, one) == ("held", "ada")
    assert "look at <it>" in page.text


@pytest.mark.parametrize("delay", ["-1", "nan", "inf", "x", "9" * 400])
def test_a_wrong_delay_is_a_sentence(dq: DurableQ, client: Client, delay: str) -> None:
    one = dq.queue("orders").send({"n": 1})
    page = client.act(f"/messages/{one}/reschedule", delay=delay)
    assert (page.status, "elay is" in page.text) == (400, True)
    if len(delay) < 10:
        assert f"Delay is a finite number of at least 0, got '{delay}'." in page.text


def test_refused_messages_are_a_sentence(dq: DurableQ, client: Client) -> None:
    (one,) = bury(dq)
    page = client.act(f"/messages/{one}/cancel")
    assert (page.status, "is a dead letter" in page.text) == (409, True)
    assert client.act("/messages/999/cancel").status == 404


def test_selected_dead_letters_are_decided(dq: DurableQ, client: Client) -> None:
    one, two, three = bury(dq, 3)
    assert "Held: 1." in client.act("/dead-letters/hold", id=one).text
    held = message(dq, one)
    assert held is not None
    assert held.held
    assert "Redriven: 1." in client.act("/dead-letters/redrive", id=two, delay="60").text
    assert last_event(dq, two) == ("requeued", "dashboard")
    assert "Discarded: 1." in client.act("/dead-letters/discard", id=three, note="no use").text
    assert message(dq, three) is None
    page = client.act("/dead-letters/redrive")
    assert (page.status, "No dead letter is selected." in page.text) == (400, True)
    assert client.act("/dead-letters/redrive", id=three).status == 404


def test_the_newest_dead_letters_come_first(
    dq: DurableQ, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durableq.dashboard.pages.dead_letters.PAGE", 2)
    ids = bury(dq, 3)
    page = client.page("/dead-letters?all=1")
    further = next(link for link in page.values("a", "href") if "after=" in link)
    seen = [one for shown in (page, client.page(further)) for one in shown.values("input", "value")]
    assert [one for one in seen if one in ids] == ids[::-1]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"reason": "boredom"}, "There is no reason 'boredom'. Nothing was changed."),
        ({"scope": "al"}, "There is no scope 'al'. Nothing was changed."),
    ],
)
def test_a_selection_with_an_unknown_filter_is_refused(
    dq: DurableQ, client: Client, fields: dict[str, str], sentence: str
) -> None:
    (one,) = bury(dq)
    page = client.act("/dead-letters/discard", id=one, **fields)
    assert (page.status, sentence in page.text) == (400, True)
    assert message(dq, one) is not None


def test_a_step_of_a_redrive_ends_when_its_time_is_over(
    dq: DurableQ, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redriving, "REDRIVE_STEP_MS", 0)
    bury(dq, 25)
    sizes = sizes_of_steps(monkeypatch)
    client.act("/dead-letters/redrive", scope="all", queue="orders")
    wait_for(lambda: "requeue done 25 25" in client.page("/dead-letters").text, what="its end")
    assert sizes == [PAGE, PAGE, 5]


def test_all_that_match_are_redriven(dq: DurableQ, client: Client) -> None:
    bury(dq, 3)
    others = bury(dq, 2, "KeyError")
    (group,) = [
        each
        for each in dq.store.require(Capability.DEAD_LETTERS).dead_letter_groups()
        if each.error_type == "ValueError"
    ]
    page = client.page(f"/dead-letters?queue=orders&group={group.fingerprint}")
    assert "3 letters" in page.text
    fields = {"scope": "all", "queue": "orders", "group": group.fingerprint, "reason": ""}
    page = client.act("/dead-letters/hold", **fields)
    assert (page.status, "cannot be held at once" in page.text) == (400, True)
    page = client.act("/dead-letters/discard", **{**fields, "reason": "boredom"})
    assert (page.status, "There is no reason 'boredom'." in page.text) == (400, True)
    page = client.act("/dead-letters/redrive", **fields)
    assert "decides about 3 letters" in page.text
    wait_for(lambda: dq.store.count_ready("orders", 10).number == 3, what="the redrive")
    left = dq.store.require(Capability.INSPECT).peek("orders-dlq", 10)
    assert [each.id for each in left] == others
    wait_for(lambda: "requeue done 3 3" in client.page("/dead-letters").text, what="its end")

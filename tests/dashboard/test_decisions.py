"""Decisions of a person about dead letters, on files and on PostgreSQL."""

import json

import pytest

from durableq import DurableQ
from durableq.dashboard import Access
from durableq.model.message import Failure, Reason, State
from durableq.store.core import Capability
from tests.dashboard.client import Client, Page
from tests.dashboard.test_actions import bury, last_event, message
from tests.support import wait_for

TOKEN = "a-token-of-sixteen-characters"
NOTE = "because of <ticket 7>"


def history(dq: DurableQ, message_id: str) -> list[tuple[str, str, str]]:
    events = dq.store.require(Capability.DEAD_LETTERS).history(message_id)
    return [(str(event.event), event.actor, event.reason) for event in events]


def edit(client: Client, message_id: str, body: object, **fields: str) -> Page:
    """Send the form of an edited body as the page of the message has it."""
    seen = fields.pop("seen", None) or client.page(f"/messages/{message_id}").field("seen")
    text = body if isinstance(body, str) else json.dumps(body)
    return client.act(f"/messages/{message_id}/retry", body=text, seen=seen, **fields)


@pytest.mark.parametrize(
    ("action", "event"),
    [("reschedule", "rescheduled"), ("run-now", "rescheduled"), ("cancel", "cancelled")],
)
def test_an_action_on_a_message_names_the_person_and_the_note(
    either: DurableQ, action: str, event: str
) -> None:
    one = either.queue("orders").send({"n": 1}, delay=60)
    with Client.of(either, access=Access(tokens={TOKEN: "ada"})) as client:
        client.act("/login", token=TOKEN)
        page = client.act(f"/messages/{one}/{action}", delay="30", note=f" {NOTE} ")
    assert history(either, one) == [(event, "ada", NOTE)]
    assert NOTE in page.text


@pytest.mark.parametrize(
    ("action", "event"),
    [
        ("redrive", "requeued"),
        ("hold", "held"),
        ("release", "released"),
        ("discard", "discarded"),
        ("retry", "retried"),
    ],
)
def test_a_decision_names_the_person_and_the_note(
    either: DurableQ, action: str, event: str
) -> None:
    (one,) = bury(either)
    with Client.of(either, access=Access(tokens={TOKEN: "ada"})) as client:
        client.act("/login", token=TOKEN)
        if action == "retry":
            page = edit(client, one, {"n": 5}, note=NOTE)
        else:
            if action == "release":
                client.act("/dead-letters/hold", id=one)
            page = client.act(f"/dead-letters/{action}", id=one, note=NOTE)
    assert history(either, one)[-1] == (event, "ada", NOTE)
    assert page.status == 200
    assert NOTE in page.text


@pytest.mark.parametrize("action", ["redrive", "discard"])
def test_a_decision_about_all_names_the_person_and_the_note(either: DurableQ, action: str) -> None:
    ids = bury(either, 3)
    with Client.of(either, access=Access(tokens={TOKEN: "ada"})) as client:
        client.act("/login", token=TOKEN)
        client.act(f"/dead-letters/{action}", scope="all", queue="orders", note=NOTE)
        wait_for(lambda: f"{action} done" in _words(client), what="the end of the task")
    event = {"redrive": "requeued", "discard": "discarded"}[action]
    assert [history(either, one)[-1] for one in ids] == [(event, "ada", NOTE)] * 3


def _words(client: Client) -> str:
    return client.page("/dead-letters").text.replace("requeue", "redrive")


def test_a_held_dead_letter_is_released_for_recovery(either: DurableQ) -> None:
    one, two = bury(either, 2)
    with Client.of(either) as client:
        client.act("/dead-letters/hold", id=one)
        page = client.page(f"/messages/{one}")
        assert "Release" in page.text
        assert "Released: 1." in client.act("/dead-letters/release", id=one).text
        found = message(either, one)
        assert found is not None
        assert (found.held, found.state) == (False, State.READY)
        assert last_event(either, one) == ("released", "dashboard")
        page = client.act("/dead-letters/release", id=two)
        assert (page.status, "None of them is held." in page.text) == (409, True)
        page = client.act("/dead-letters/release", scope="all")
        assert (page.status, "cannot be released at once" in page.text) == (400, True)
    assert [event for event, _, _ in history(either, two)] == ["failed", "buried"]


def test_a_body_is_edited_and_retried(either: DurableQ) -> None:
    (one,) = bury(either)
    with Client.of(either) as client:
        page = client.page(f"/messages/{one}")
        assert '"n": 0' in page.text
        page = edit(client, one, '{\r\n  "n": 5,\r\n  "é": [1.5, null]\r\n}', delay="60")
        assert f"Message {one} is sent back with another body." in page.text
    found = message(either, one)
    assert found is not None
    assert json.loads(found.body) == {"n": 5, "é": [1.5, None]}
    assert (found.queue, found.state) == ("orders", State.DELAYED)
    assert (found.recovery_count, found.source_queue) == (1, None)
    assert history(either, one)[-1] == ("retried", "dashboard", "edited by hand")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"n":\n 1,}', "The body, line 2: it is not JSON"),
        ("", "The body, line 1: it is not JSON"),
        ("NaN", "The body: it is not JSON: NaN is not a JSON number."),
        ('{"a": 1, "a": 2}', "has the name 'a' twice"),
        ("[" * 5000, "The body"),
        ("0.1000000000000000055511151231257827", "no double holds it"),
        ('"\\ud800"', "surrogate"),
        ('{"n": 0}', "The body is as it was."),
        (json.dumps("x" * 3000), "takes at most 2000"),
    ],
)
def test_a_body_that_cannot_be_sent_is_a_sentence(
    dq: DurableQ, client: Client, text: str, says: str
) -> None:
    dq.queue("orders", max_body_bytes=2000)
    (one,) = bury(dq)
    page = edit(client, one, text, note="not lost")
    assert (page.status, says in page.text) == (400, True), page.text
    assert page.field("note") == "not lost"
    found = message(dq, one)
    assert found is not None
    assert (found.body, found.source_queue) == ('{"n":0}', "orders")
    assert [event for event, _, _ in history(dq, one)] == ["failed", "buried"]


def test_a_body_that_is_no_json_is_refused(either: DurableQ) -> None:
    (one,) = bury(either)
    with Client.of(either) as client:
        page = edit(client, one, '{"n": 5')
    assert (page.status, "it is not JSON" in page.text) == (400, True)
    found = message(either, one)
    assert found is not None
    assert (found.body, found.source_queue) == ('{"n":0}', "orders")


def test_a_dead_letter_that_has_changed_is_not_retried(either: DurableQ) -> None:
    (one,) = bury(either)
    with Client.of(either) as client:
        seen = client.page(f"/messages/{one}").field("seen")
        client.act("/dead-letters/redrive", id=one)
        page = edit(client, one, {"n": 5}, seen=seen)
        assert (page.status, "There is no dead letter" in page.text) == (404, True)
        (received,) = either.store.receive("orders", 1).messages
        assert received.receipt is not None
        failure = Failure(Reason.HANDLER_ERROR, "ValueError", "again")
        either.store.fail([(received.receipt, failure)])
        for old in (seen, "", "x"):
            page = client.act(f"/messages/{one}/retry", body='{"n": 5}', seen=old)
            assert (page.status, "has changed since you opened" in page.text) == (409, True)
        found = message(either, one)
        assert found is not None
        assert (found.body, found.source_queue) == ('{"n":0}', "orders")
        assert edit(client, one, {"n": 5}).status == 200


def test_a_dead_letter_that_recovery_has_leased_is_not_retried(either: DurableQ) -> None:
    (one,) = bury(either)
    with Client.of(either) as client:
        seen = client.page(f"/messages/{one}").field("seen")
        (leased,) = either.store.receive("orders-dlq", 1).messages
        page = edit(client, one, {"n": 5}, seen=seen)
        assert (page.status, "recovery process has leased" in page.text) == (409, True)
        found = message(either, one)
        assert found is not None
        assert (found.body, found.state) == ('{"n":0}', State.IN_FLIGHT)
        assert leased.receipt is not None
        either.store.release([leased.receipt])
        assert edit(client, one, {"n": 5}).status == 200


def test_a_body_that_is_no_json_is_not_edited(dq: DurableQ, client: Client) -> None:
    one = dq.queue("orders").send(b"\x00\x01")
    two = dq.queue("orders").send("x" * (300 << 10))
    received = dq.store.receive("orders", 2).messages
    failure = Failure(Reason.HANDLER_ERROR, "ValueError", "it failed")
    dq.store.fail([(each.receipt, failure) for each in received if each.receipt])
    for message_id in (one, two):
        assert "Edit the body" not in client.page(f"/messages/{message_id}").text


def test_characters_that_act_on_a_screen_are_escapes_in_the_form(
    dq: DurableQ, client: Client
) -> None:
    dq.queue("orders").send({"n": "\u202egpj\x1b[31m\u00a0😀"})
    (received,) = dq.store.receive("orders", 1).messages
    assert received.receipt is not None
    dq.store.fail([(received.receipt, Failure(Reason.HANDLER_ERROR, "E", "e"))])
    page = client.page(f"/messages/{received.id}")
    assert "\\u202egpj\\u001b[31m\\u00a0😀" in page.text
    assert "\u202e" not in page.html


def test_a_refused_text_is_shown_again_to_be_mended(dq: DurableQ, client: Client) -> None:
    (one,) = bury(dq)
    page = edit(client, one, '{\r\n\t"n": 5,\r\n\t"x": "\u202e",}', note="why")
    assert '{\n\t"n": 5,\n\t"x": "\\u202e",}</textarea>' in page.html.replace("&#34;", '"')
    seen, note = page.field("seen"), page.field("note")
    text = '{\n\t"n": 5,\n\t"x": "\\u202e"}'
    assert edit(client, one, text, seen=seen, note=note).status == 200
    found = message(dq, one)
    assert found is not None
    assert json.loads(found.body) == {"n": 5, "x": "\u202e"}
    assert history(dq, one)[-1] == ("retried", "dashboard", "why")


def test_a_note_that_cannot_be_stored_is_a_sentence(dq: DurableQ, client: Client) -> None:
    one = dq.queue("orders").send({"n": 1}, delay=60)
    page = client.act(f"/messages/{one}/cancel", note="x" * 2001)
    assert (page.status, "at most 2000 characters" in page.text) == (400, True)
    (two,) = bury(dq)
    page = client.act("/dead-letters/hold", id=two, note="x" * 2001)
    assert (page.status, "at most 2000 characters" in page.text) == (400, True)

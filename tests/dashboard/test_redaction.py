"""No page shows the value of a hidden field."""

import inspect
import json
import typing
from pathlib import Path

import pytest

from durableq import DurableQ, Hold, InvalidInput
from durableq.dashboard import dashboard
from durableq.dashboard.redaction import HIDDEN, MAX_TEXTS, PASSED, RedactedStore, Redaction
from durableq.model.dead_letters import DeadLetterGroup, RecoveryDecisions
from durableq.model.decisions import Release
from durableq.model.info import BreakerInfo, GroupInfo, HistoryPage, QueueInfo, SearchPage
from durableq.model.message import (
    Completion,
    DeadLetter,
    Failure,
    HistoryEvent,
    IdempotencyRecord,
    Message,
    Reason,
    Received,
)
from durableq.model.once import OnceEntry
from durableq.model.progress import Progress, progress_report
from durableq.model.slots import ScheduleInfo
from durableq.store import capabilities
from durableq.store.core import Capability, Queueing
from tests.dashboard.client import Client

SECRET = "4111-SECRET"
FIELDS = ("card", "*.Password", "customer.na*")
BODY = {
    "n": 1,
    "card": SECRET,
    "list": [{"CARD": {"number": SECRET}, "open": "shown"}],
    "login": {"password": SECRET},
    "customer": {"name": SECRET, "city": "Paris"},
    "name": "not hidden",
    "a.card": SECRET,
    "Message": json.dumps({"card": SECRET, "Records": [json.dumps({"CARD": SECRET})]}),
}
RULES = """\
[[rule]]
name = "cards"
then = "hold"
[rule.when]
body = {card = "another"}

[[rule]]
name = "others"
then = "retry"
set = {card = "4111-SECRET"}
"""


def secrets(dq: DurableQ) -> list[str]:
    """Put the secret where hidden fields are, and where a text may quote them."""
    orders = dq.queue("orders", max_receives=1)
    dead = orders.send(BODY, attributes={"card": SECRET, "tenant": "north"})
    (received,) = dq.store.receive("orders", 1).messages
    assert received.receipt is not None
    text = f"refused: {SECRET}"
    failure = Failure(Reason.HANDLER_ERROR, "ValueError", text, f"Traceback\n{text}", place="a:f")
    dq.store.fail([(received.receipt, failure)], actor="worker")
    waiting = orders.send(BODY, delay=60, key="k")
    blob = orders.send(SECRET.encode(), delay=60)
    decision = Hold(f"the policy raised ValueError: {SECRET}")
    dead_letters = dq.store.require(Capability.DEAD_LETTERS)
    dead_letters.decide_by_id("orders-dlq", [dead], decision, actor="recovery:7")
    dead_letters.decide_by_id("orders-dlq", [dead], Release("looked at"), actor="ada")
    complete(dq)
    dq.once("price", lambda: {"card": SECRET, "open": "shown"}, ttl=60)
    report_progress(dq)
    outage = dq.queue("mail", breaker=True).send(BODY)
    (received,) = dq.store.receive("mail", 1).messages
    assert received.receipt is not None
    dq.store.fail([(received.receipt, Failure(Reason.UNAVAILABLE, "Unavailable", text))])
    return [dead, waiting, blob, outage]


def report_progress(dq: DurableQ) -> None:
    """Leave a message in flight, with the secret in the text of its progress."""
    dq.queue("orders").send({"n": 1})
    (received,) = dq.store.receive("orders", 1).messages
    assert received.receipt is not None
    report = progress_report(received.receipt, 0.5, SECRET)
    dq.store.require(Capability.PROGRESS).report_progress([report])


def complete(dq: DurableQ) -> None:
    """Complete a message with a key, and with the secret in its result."""
    dq.queue("orders").send({"n": 1}, key="k2")
    (received,) = dq.store.receive("orders", 1).messages
    assert received.receipt is not None
    result = json.dumps({"card": SECRET, "open": "shown"})
    dq.store.complete([Completion(received.receipt, result, "k2")])


def test_no_page_shows_a_hidden_value(either: DurableQ, tmp_path: Path) -> None:
    dead, waiting, blob, outage = secrets(either)
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    (group,) = either.store.require(Capability.DEAD_LETTERS).dead_letter_groups()
    letters = f"/dead-letters?queue=orders&group={group.fingerprint}"
    messages = [f"/messages/{one}" for one in (dead, waiting, blob, outage)]
    bodies = [f"/messages/{one}/body" for one in (dead, waiting, blob)]
    pages = (
        *("/", "/queues/mail", "/queues/orders", "/queues/orders-dlq", "/workers", "/health"),
        *("/keys", "/keys?queue=orders&key=k2", "/values", "/values?key=price", "/recovery"),
        *("/redrives", "/metrics", "/dead-letters"),
    )
    with Client.of(either, redact=FIELDS, rules=rules) as client:
        for path in (*pages, letters, "/dead-letters/dry-run", *messages, *bodies):
            page = client.page(path)
            assert page.status == (403 if path == bodies[2] else 200), path
            assert SECRET not in page.html, path
        page = client.page(messages[0])
        for word in (
            HIDDEN,
            "shown",
            "Paris",
            "not hidden",
            "north",
            "ValueError",
            "fields are hidden",
        ):
            assert word in page.text, word
        assert client.get(bodies[1]).json()["customer"] == {"name": HIDDEN, "city": "Paris"}
        assert "others" in client.page("/dead-letters/dry-run").text
        assert "retry, by rule" in page.text


def test_without_fields_nothing_is_hidden(dq: DurableQ, client: Client) -> None:
    dead, _, blob, _ = secrets(dq)
    assert SECRET in client.page(f"/messages/{dead}").html
    for path in ("/", "/queues/mail", "/health", "/keys?queue=orders&key=k2", "/values?key=price"):
        assert SECRET in client.page(path).html
    assert client.get(f"/messages/{blob}/body").content == SECRET.encode()


def test_a_search_does_not_find_hidden_values(dq: DurableQ) -> None:
    secrets(dq)
    with Client.of(dq, redact=FIELDS) as client:
        for text in ("4", "Paris", "nothing"):
            page = client.page("/queues/orders", params={"by": "text", "text": text})
            assert (page.status, "cannot be searched" in page.text) == (403, True)
        assert "text in the body" not in client.page("/queues/orders").text
        page = client.page("/queues/orders", params={"by": "key", "text": "k"})
        assert (page.status, '{"n":1,"card":"hidden"' in page.text) == (200, True)


def test_a_body_is_not_edited_while_fields_are_hidden(dq: DurableQ) -> None:
    dead, *_ = secrets(dq)
    with Client.of(dq, redact=FIELDS) as client:
        assert "cannot be edited here" in client.page(f"/messages/{dead}").text
        page = client.act(f"/messages/{dead}/retry", body='{"n": 2}')
        assert (page.status, "while fields are hidden" in page.text) == (403, True)
    found = dq.store.require(Capability.INSPECT).message(dead)
    assert found is not None
    assert (found.source_queue, SECRET in str(found.body)) == ("orders", True)


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        (("card",), {"card", "a.card", "in.card", "list.card"}),
        (("*.card",), {"card", "a.card", "in.card", "list.card"}),
        (("in.card",), {"in.card"}),
        (("IN.*",), {"in.card", "in.open"}),
        (("*ar*",), {"card", "a.card", "in.card", "list.card"}),
        (("in",), {"in"}),
        (("rd",), set[str]()),
        (("*",), {"card", "a.card", "in", "list"}),
    ],
)
def test_a_pattern_hides_fields_by_their_last_names(
    fields: tuple[str, ...], hidden: set[str]
) -> None:
    value = {"card": 1, "a.card": 1, "in": {"Card": 1, "open": 1}, "list": [[{"card": 1}], 2]}

    def found(value: object, place: str = "") -> set[str]:
        if value == HIDDEN:
            return {place.casefold()}
        if isinstance(value, list):
            return set().union(*(found(each, place) for each in value))
        inner = value.items() if isinstance(value, dict) else ()
        return set().union(*(found(each, f"{place}.{name}".strip(".")) for name, each in inner))

    assert found(Redaction(fields).value(value)) == hidden


@pytest.mark.parametrize("fields", ["card", [""], ["a..b"], [".a"], ["a."], [7]])
def test_a_field_without_a_name_is_refused(dq: DurableQ, fields: typing.Any) -> None:
    with pytest.raises(InvalidInput, match=r"field|redact"):
        dashboard(dq, redact=fields)


def test_a_name_that_is_given_twice_hides_both_values() -> None:
    stored = f'{{"a": {{"card": "{SECRET}"}}, "a": 2}}'
    assert Redaction(["card"]).body(stored) == '{"a":2}'
    assert Redaction(["card"]).body(f'{{"card": "{SECRET}"') == '"hidden"'
    assert Redaction(["x"]).body('{"é": "\\ud800"}') == '{"\\u00e9":"\\ud800"}'


def test_json_in_a_string_is_redacted() -> None:
    hide = Redaction(["card", "message.pin"])
    inner = {"card": SECRET, "open": "é", "pin": 7, "list": [{"card": {"n": SECRET}}]}
    left = {"card": HIDDEN, "open": "é", "pin": HIDDEN, "list": [{"card": HIDDEN}]}
    for text in (
        json.dumps(inner),
        f" \n{json.dumps(inner, indent=2)}",
        f"\ufeff{json.dumps(inner)}",
    ):
        (found,) = hide.value({"Message": text}).values()
        assert json.loads(found) == left
    envelope = json.dumps({"Message": json.dumps(inner)})
    ((found,),) = hide.value([[envelope]])
    assert json.loads(json.loads(found)["Message"]) == left
    twice = hide.value(json.dumps(json.dumps({"card": SECRET})))
    assert json.loads(json.loads(twice)) == {"card": HIDDEN}
    named_twice = f'{{"a": {{"card": "{SECRET}"}}, "a": 2}}'
    assert hide.value({"Message": named_twice}) == {"Message": '{"a":2}'}
    assert hide.attributes(json.dumps({"event": json.dumps({"card": SECRET})})) == (
        '{"event":"{\\"card\\":\\"hidden\\"}"}'
    )


@pytest.mark.parametrize(
    "text",
    [
        f'{{"card": "{SECRET}"',
        f'{{"card": "{SECRET}"}}\n{{"card": "{SECRET}"}}',
        f"{{'card': '{SECRET}'}}",
        f'"{{\\"card\\": \\"{SECRET}',
        f'[{"9" * 5000}, {{"card": "{SECRET}"}}]',
        "[" * 100_000,
        "[INFO] a line of a log",
    ],
    ids=["cut", "lines", "python", "cut in quotes", "number", "deep", "log"],
)
def test_a_string_that_begins_as_json_and_is_none_is_hidden_whole(text: str) -> None:
    assert Redaction(["card"]).value({"a": text}) == {"a": HIDDEN}


def test_strings_too_far_inside_each_other_are_hidden_whole() -> None:
    text = json.dumps({"a": 1})
    for depth in range(1, MAX_TEXTS + 3):
        shown = Redaction(["card"]).value(text)
        assert ("hidden" in shown) == (depth > MAX_TEXTS), depth
        text = json.dumps({"a": text})


@pytest.mark.parametrize("text", ["", "plain", "a {b}", '"quoted"', "7", "null", "\\"])
def test_another_string_is_shown_as_it_is(text: str) -> None:
    assert Redaction(["card"]).value({"a": text}) == {"a": text}


def test_of_a_reason_of_recovery_only_its_origin_is_left() -> None:
    hide = Redaction(["card"])
    for reason, left in {
        f'rule "a: b": its card is {SECRET}': 'rule "a: b"',
        f"rule 3: {SECRET}": "rule 3",
        "rule 3": "rule 3",
        f"the policy raised ValueError: {SECRET}": "the policy raised ValueError",
        SECRET: HIDDEN,
        "": "",
    }.items():
        assert hide.reason(reason, "recovery:7") == left
    assert hide.reason("a note", "ada") == "a note"


def test_results_are_redacted(either: DurableQ) -> None:
    complete(either)
    store = Redaction(["card"]).store(either.store).require(Capability.IDEMPOTENCY)
    for record in (store.record("orders", "k2"), *store.records("orders", 10)):
        assert record is not None
        assert record.result == '{"card":"hidden","open":"shown"}'


def test_counted_reasons_of_recovery_are_hidden(dq: DurableQ) -> None:
    secrets(dq)
    store = Redaction(["card"]).store(dq.store).require(Capability.DEAD_LETTERS)
    (count,) = store.recovery_decisions("orders", 0, 10).counts
    assert count.reason == "the policy raised ValueError"


#: Operations that no page uses: they lease, settle, or are for other processes.
NOT_FOR_PAGES = {
    "approximate_counts",
    *("send", "receive", "extend", "complete", "fail", "settle", "together", "release"),
    *("watch", "close", "delete_queue", "decide", "lease_dead_letters", "continue_redrive"),
    *("register", "beat", "unregister", "reclaim", "answer_for", "follow", "attach_result"),
    *("prune", "maintain", "compare_and_set", "execute", "prepare_transactions", "transaction"),
    *("once_get_or_lease", "once_store", "once_extend", "once_fail", "report_progress"),
    "settle_joining",
    *("declare_schedules", "next_slots_in_ms", "fire_schedule", "remove_schedule", "has_room"),
    *("create_item_table", "item_table", "item_tables", "item_table_size", "delete_item_table"),
    *("set_item_ttl", "items", "change_items"),
    "lease_again",
    *("database_id", "envelopes", "queue_document", "queue_documents", "store_queue_document"),
    *("documents_with", "sources_of"),
    *("purge_once", "remove_queue", "deleted_ms_ago", "readiness"),
}
TEXTS = (
    *(Message, DeadLetter, HistoryEvent, DeadLetterGroup, IdempotencyRecord, OnceEntry, Progress),
    *(SearchPage, HistoryPage, GroupInfo, QueueInfo, BreakerInfo, Received, RecoveryDecisions),
    ScheduleInfo,
)


def test_every_read_of_a_text_is_redacted() -> None:
    protocols = [getattr(capabilities, name) for name in capabilities.__all__]
    missing = []
    for protocol in (*protocols, Queueing):
        for name, method in inspect.getmembers(protocol, inspect.isfunction):
            returned = str(inspect.signature(method).return_annotation)
            has_text = any(kind.__name__ in returned for kind in TEXTS) or "Answer" in returned
            ways = [
                names for names in (vars(RedactedStore), PASSED, NOT_FOR_PAGES) if name in names
            ]
            if not name.startswith("_") and (len(ways) != 1 or (has_text and ways == [PASSED])):
                missing.append(f"{protocol.__name__}.{name}")
    assert missing == []


def test_an_operation_that_is_not_known_is_refused(dq: DurableQ) -> None:
    store: typing.Any = Redaction(["card"]).store(dq.store)
    assert store.count_ready("orders", 1).number == 0
    for name in (*NOT_FOR_PAGES, "engine", "_database", "a_later_read"):
        with pytest.raises(AttributeError, match=f"Pages have no {name} of a store"):
            getattr(store, name)


def test_the_reads_have_the_arguments_of_the_store() -> None:
    differ = []
    for protocol in (*(getattr(capabilities, name) for name in capabilities.__all__), Queueing):
        for name, method in inspect.getmembers(protocol, inspect.isfunction):
            ours = vars(RedactedStore).get(name)
            if ours is None or name.startswith("_"):
                continue
            wanted = inspect.signature(method).parameters
            has = inspect.signature(ours).parameters
            if [(each.name, each.kind, each.default) for each in wanted.values()] != [
                (each.name, each.kind, each.default) for each in has.values()
            ]:
                differ.append(name)
    assert differ == []


def test_events_have_no_text_that_may_quote_a_hidden_value(either: DurableQ) -> None:
    secrets(either)
    inspected = either.store.require(Capability.INSPECT)
    assert SECRET in str(inspected.events())
    found = Redaction(["card"]).store(either.store).require(Capability.INSPECT).events()
    assert len(found.events) == len(inspected.events().events)
    assert SECRET not in str(found)

"""The actions on keys, tasks, workers and the database are guarded, and texts stay texts."""

import json
from urllib.parse import quote

import pytest

from durableq import DurableQ
from durableq.dashboard.upkeep import ACTIONS
from durableq.model.decisions import Discard
from durableq.store.core import Capability
from tests.dashboard.client import Client
from tests.dashboard.test_escaping import CORPUS, check
from tests.dashboard.upkeep import bury, complete, decide, poison, record, register, start_redrive

PAGES = ("/keys", "/values", "/redrives", "/workers", "/recovery", "/health", "/")


def test_texts_of_keys_rules_and_workers_stay_texts(dq: DurableQ, client: Client) -> None:
    pages = {path: client.page(path) for path in poison(dq)}
    for page in pages.values():
        assert page.status == 200
        check(page)
    clean = [path for path, page in pages.items() if "<script>hacked=1" not in page.text]
    assert clean == []  # the corpus is there, as a text


@pytest.mark.parametrize("text", CORPUS)
def test_addresses_stay_texts(client: Client, text: str) -> None:
    for path in ("/keys", "/values", "/redrives"):
        check(client.page(path, params={"queue": text, "key": text, "after": text}))
        check(client.page(path, params={"queue": "orders", "key": text}))
    named = quote(text.replace("/", ""))
    check(client.page(f"/redrives/{named}"))
    check(client.act(f"/workers/{named}/drain"))
    check(client.act("/keys/forget?queue=orders&key=none", key=text))


def filled(dq: DurableQ) -> list[str]:
    """Return the addresses of all actions, each of which has something to change."""
    complete(dq, "k")
    dq.once("v", lambda: 1, ttl=3600)
    bury(dq)
    task, worker = start_redrive(dq), register(dq, "worker-1:7")
    dq.store.declare_queue("orders", {"breaker": 1})
    given = {"id": task.id, "owner": worker.owner_id, "name": "orders"}
    queries = {"/keys/forget": "?queue=orders&key=k", "/values/forget": "?key=v"}
    return [path.format(**given) + queries.get(path, "") for path, _ in ACTIONS]


def test_read_only_has_none_of_these_actions(dq: DurableQ) -> None:
    paths = filled(dq)
    with Client.of(dq, read_only=True) as client:
        for path in (*PAGES, "/keys?queue=orders&key=k", "/values?key=v", "/redrives/1"):
            page = client.page(path)
            assert page.status == 200
            assert "post" not in page.values("form", "method")
        for path in paths:
            assert client.act(path).status in {404, 405}
    check_unchanged(dq)


def test_another_origin_and_a_form_without_its_token_change_nothing(
    dq: DurableQ, client: Client
) -> None:
    for path in filled(dq):
        assert client.act(path, origin="http://evil.example").status == 403
        assert client.act(path, form_token="another").status == 403
    check_unchanged(dq)


def check_unchanged(dq: DurableQ) -> None:
    assert record(dq, "k") is not None
    assert dq.store.require(Capability.ONCE).once_entry("v") is not None
    (task,) = dq.store.require(Capability.REDRIVE).redrive_tasks()
    assert (task.state, task.moved) == ("running", 0)
    assert [each.draining for each in dq.store.require(Capability.FLEET).workers()] == [False]
    breaker = dq.store.require(Capability.CONTROL).breaker("orders")
    assert breaker.phase.label == "closed"


def test_hidden_fields_are_on_none_of_these_pages(dq: DurableQ) -> None:
    result = '{"card": "4111-SECRET", "city": "Paris"}'
    complete(dq, "k", result)
    dq.once("v", lambda: json.loads(result), ttl=3600)
    decide(dq, Discard('rule "cards": it is 4111-SECRET'))
    for redact, hidden in (((), False), (("card",), True)):
        with Client.of(dq, redact=redact) as client:
            for path in ("/keys?queue=orders", "/keys?queue=orders&key=k", "/values?key=v"):
                page = client.page(path)
                assert "Paris" in page.text
                assert ("4111-SECRET" in page.html) != hidden, path
            page = client.page("/recovery")
            assert 'rule "cards"' in page.text
            assert "4111-SECRET" not in page.html

"""Keys, values, recovery, redrive tasks and workers are shown and changed, on both engines."""

import json
import logging
import os
from urllib.parse import urlencode

import pytest

from durableq import DurableQ
from durableq.client.computing import OWNER
from durableq.dashboard import Access
from durableq.model.dead_letters import DeadLetterFilter, RedriveState, WholeQueue
from durableq.model.decisions import Discard, Hold, Requeue, Retry
from durableq.model.once import TOKEN_BYTES, OnceRequest
from durableq.store.core import Capability
from durableq.supervisor.liveness import this_process
from tests.dashboard.client import Client
from tests.dashboard.upkeep import (
    bury,
    closed_breaker,
    complete,
    decide,
    open_recovery_breaker,
    record,
    register,
    start_redrive,
)
from tests.support import wait_for


def forget(client: Client, queue: str, key: str) -> tuple[int, str]:
    page = client.act("/keys/forget?" + urlencode({"queue": queue, "key": key}))
    return page.status, page.text


def test_a_key_is_shown_with_its_result(either: DurableQ) -> None:
    one = complete(either, "order-7", '{"charged": {"amount": 12}}')
    with Client.of(either) as client:
        page = client.page("/keys")
        assert "order-7 completed" in page.text
        assert '{"charged": {"amount": 12}}' in page.text
        page = client.page("/keys", params={"queue": "orders", "key": "order-7"})
        assert "Key order-7 of orders" in page.text
        assert "completed" in page.text
        assert f"{one} it has ended" in page.text
        assert "charged 1 field amount 12" in page.text
        page = client.page("/keys", params={"queue": "orders", "key": "order-8"})
        assert "Nothing is remembered of this key" in page.text
        assert client.page("/keys", params={"queue": "none"}).status == 404


def test_a_key_in_progress_names_its_worker(either: DurableQ) -> None:
    worker = register(either, "worker-1:7")
    one = either.queue("orders").send({}, key="busy")
    either.store.receive("orders", 1, owner_id=worker.owner_id)
    with Client.of(either) as client:
        assert f"busy in progress {one}" in client.page("/keys").text
        page = client.page("/keys", params={"queue": "orders", "key": "busy"})
        assert "in progress" in page.text
        assert "worker-1:7" in page.text
        assert f"/messages/{one}" in page.values("a", "href")
        assert "Forget" not in page.text


def test_a_key_whose_lease_has_ended_is_not_in_progress(either: DurableQ) -> None:
    either.queue("orders").send({}, key="lost")
    either.store.receive("orders", 1, visibility_ms=1)
    with Client.of(either) as client:
        wait_for(lambda: "lost lease ended" in client.page("/keys").text, what="the end")


def test_a_key_is_forgotten(either: DurableQ, caplog: pytest.LogCaptureFixture) -> None:
    complete(either, "order\n7/?&")
    either.queue("orders").send({}, key="busy")
    either.store.receive("orders", 1)
    with Client.of(either) as client, caplog.at_level(logging.INFO, "durableq.dashboard"):
        assert forget(client, "orders", "busy")[0] == 409
        status, text = forget(client, "orders", "order\n7/?&")
        assert (status, "is forgotten" in text) == (200, True)
        assert forget(client, "orders", "order\n7/?&")[0] == 404
        assert forget(client, "orders", "k" * 513)[0] == 400
        assert forget(client, "orders", "")[0] == 400
    assert record(either, "order\n7/?&") is None
    assert record(either, "busy") is not None
    said = [line.getMessage() for line in caplog.records]
    assert said == ["dashboard: Key order\\n7/?& of queue orders is forgotten."]


def test_keys_are_listed_page_by_page(dq: DurableQ, client: Client) -> None:
    for number in range(60):
        complete(dq, f"key {number:02}")
    first = client.page("/keys?queue=orders")
    assert ("key 49" in first.text, "key 50" in first.text) == (True, False)
    (further,) = [link for link in first.values("a", "href") if "after=" in link]
    rest = client.page(further)
    assert ("key 49" in rest.text, "key 50" in rest.text, "key 59" in rest.text) == (0, 1, 1)
    assert "Next page" not in rest.text
    assert "No key is remembered here" in client.page("/keys?queue=mail").text


def test_a_value_of_once_is_shown_and_forgotten(either: DurableQ) -> None:
    either.once("rates", lambda: {"chf": 1}, ttl=3600)
    with Client.of(either) as client:
        assert "rates fresh in 59 min" in client.page("/values").text
        page = client.page("/values?key=rates")
        assert "1 field chf 1" in page.text
        assert "The value of rates is forgotten." in client.act("/values/forget?key=rates").text
        assert "There is no value" in client.page("/values").text
        assert "There is no value of this key" in client.page("/values?key=rates").text
        assert client.act("/values/forget?key=rates").status == 404


def test_a_value_that_is_being_computed_names_the_process(either: DurableQ) -> None:
    this = this_process("")
    owner = json.dumps({name: getattr(this, name) for name in OWNER})
    request = OnceRequest(b"0" * TOKEN_BYTES, 60_000, owner)
    either.store.require(Capability.ONCE).once_get_or_lease("slow", request)
    with Client.of(either) as client:
        page = client.page("/values")
        assert "slow none" in page.text
        assert f" pid {os.getpid()}" in page.text
        page = client.page("/values?key=slow")
        assert f"computed by pid {os.getpid()}, lease 5" in page.text
        assert "The first value is being computed." in page.text


def test_decisions_are_counted_by_rule(either: DurableQ) -> None:
    bank = 'rule "the bank: down"'
    decide(either, Requeue(bank, delay=60))
    decide(either, Requeue(f"{bank}: try later", delay=60))
    decide(either, Retry({"easier": 1}, "rule 2", 60))
    decide(either, Discard("rule 22: no use"))
    decide(either, Hold("too odd: for a policy"), "recovery:2")
    decide(either, Hold("by a person"), "ada")
    with Client.of(either) as client:
        page = client.page("/recovery")
        for row in (
            f"{bank} orders requeued 2 2",
            "rule 2 orders retried, changed 1 1",
            "rule 22 orders discarded 1 1",
            "too odd: for a policy orders held 1 1",
        ):
            assert row in page.text
        assert "by a person" not in page.text


def test_the_breaker_of_recovery_is_explained(dq: DurableQ, client: Client) -> None:
    assert "no recovery process has decided" in client.page("/recovery").text
    register(dq, "recovery:77")
    open_recovery_breaker(dq)
    page = client.page("/recovery")
    assert "orders open" in page.text
    assert "7 of 9 messages that recovery sent back died again. It probes in" in page.text
    assert "recovery:77orders idle" in page.text
    metadata = dq.store.require(Capability.METADATA)
    assert metadata.compare_and_set("breaker:mail", closed_breaker(), expected=None)
    assert "2 of the last 5 messages that were sent back died" in client.page("/recovery").text


def test_the_breaker_of_a_queue_is_opened_and_closed(either: DurableQ) -> None:
    with Client.of(either) as client:
        assert "No queue has one." in client.page("/recovery").text
        assert client.act("/queues/orders/breaker/open").status == 409  # it has none
        either.queue("orders", max_receives=1, breaker=True)
        page = client.act("/queues/orders/breaker/open", seconds="600")
        assert "The breaker of orders is open, and probes in" in page.text
        assert "by dashboard" in client.page("/recovery").text
        control = either.store.require(Capability.CONTROL)
        assert control.breaker("orders").phase.label == "open"
        page = client.act("/queues/orders/breaker/close")
        assert "The breaker of orders is closed." in page.text
        assert control.breaker("orders").phase.label == "closed"
        assert [each.actor for each in control.breaker("orders").transitions] == ["dashboard"] * 2
        for wrong in ("0", "-1", "x", "nan", "9" * 30):
            assert client.act("/queues/orders/breaker/open", seconds=wrong).status == 400


def test_a_redrive_task_is_changed_resumed_and_cancelled(either: DurableQ) -> None:
    bury(either, 3)
    task = start_redrive(either, rate=0.001, note="the bank is up")
    redrive, place = either.store.require(Capability.REDRIVE), f"/redrives/{task.id}"
    with Client.of(either) as client:
        page = client.page("/redrives")
        assert f"{task.id}: requeue running 0 3 0 0.001/s ada" in page.text
        assert page.values("progress", "max") == ["3"]
        page = client.page(place)
        assert "0 of 3" in page.text
        assert "the bank is up" in page.text
        assert "queue orders" in page.text
        assert "The rate of redrive task" in client.act(f"{place}/rate", rate="").text
        assert redrive.redrive_task(task.id).rate is None
        assert client.act(f"{place}/rate", rate="-1").status == 400
        assert "goes on" in client.act(f"{place}/resume").text
        wait_for(lambda: "done" in client.page(place).text, what="its end")
        assert client.act(f"{place}/resume").status == 409
        assert client.act(f"{place}/rate", rate="5").status == 409
        assert client.page("/redrives/999").status == 404
    assert either.store.count_ready("orders", 10).number == 3


def test_a_redrive_task_is_cancelled(dq: DurableQ, client: Client) -> None:
    bury(dq, 2)
    task = start_redrive(dq)
    page = client.act(f"/redrives/{task.id}/cancel")
    assert f"Redrive task {task.id} is cancelled: 0 of 2 done." in page.text
    task = dq.store.require(Capability.REDRIVE).redrive_task(task.id)
    assert task.state is RedriveState.CANCELLED
    assert "post" not in client.page(f"/redrives/{task.id}").values("form", "method")


def test_the_overview_has_recovery_and_redrives(dq: DurableQ, client: Client) -> None:
    assert "Recovery0 processes" in client.page("/").text
    bury(dq)
    start_redrive(dq)
    register(dq, "recovery:9")
    open_recovery_breaker(dq)
    page = client.page("/")
    assert "Recovery1 process, open for orders" in page.text
    assert "Redrives1 running" in page.text


def test_a_discard_has_no_rate(dq: DurableQ, client: Client) -> None:
    bury(dq)
    redrive = dq.store.require(Capability.REDRIVE)
    task = redrive.start_redrive(DeadLetterFilter(), Discard("no use"), actor="ada")
    page = client.page(f"/redrives/{task.id}")
    assert f"/redrives/{task.id}/rate" not in page.values("form", "action")
    assert f"/redrives/{task.id}/cancel" in page.values("form", "action")
    assert client.act(f"/redrives/{task.id}/rate", rate="5").status == 400


def test_a_redrive_of_a_whole_queue_is_shown_with_its_failure(dq: DurableQ, client: Client) -> None:
    bury(dq)
    dq.queue("repaired")
    redrive = dq.store.require(Capability.REDRIVE)
    task = redrive.start_redrive(WholeQueue("orders-dlq"), Requeue(), to_queue="repaired")
    assert (
        f"{task.id}: requeue all of orders-dlq to repaired running" in client.page("/redrives").text
    )
    assert "requeue all of orders-dlq to repaired" in client.page("/dead-letters").text
    dq.store.require(Capability.CONTROL).delete_queue("repaired")
    client.act(f"/redrives/{task.id}/resume")
    wait_for(lambda: redrive.redrive_task(task.id).failure, what="its end")
    text = client.page(f"/redrives/{task.id}").text
    assert "all of queue orders-dlq" in text
    assert "its target queue was deleted" in text


def test_a_worker_is_drained(either: DurableQ, caplog: pytest.LogCaptureFixture) -> None:
    worker, recovery = register(either, "worker-1:7"), register(either, "recovery:9")
    fleet, token = either.store.require(Capability.FLEET), "a-token-of-sixteen-characters"
    access = Access(tokens={token: "ada"})
    with (
        Client.of(either, access=access) as client,
        caplog.at_level(logging.INFO, "durableq.dashboard"),
    ):
        client.act("/login", token=token)
        actions = client.page("/workers").values("form", "action")
        assert [path for path in actions if "drain" in path] == [
            f"/workers/{worker.owner_id}/drain"
        ]
        page = client.act(f"/workers/{recovery.owner_id}/drain")
        assert (page.status, "is a recovery process" in page.text) == (409, True)
        page = client.act(f"/workers/{worker.owner_id}/drain")
        assert "worker-1:7 is asked to end." in page.text
        assert "idle asked to end" in page.text
        fleet.unregister(worker.owner_id)
        for gone in (str(worker.owner_id), "0", "x"):
            assert client.act(f"/workers/{gone}/drain").status == 404
    assert [each.draining for each in fleet.workers()] == [False]
    said = caplog.records[0].getMessage()
    assert said.startswith("ada: worker-1:7 is asked to end.")

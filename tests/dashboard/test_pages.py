"""The pages show the store, and errors are sentences."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import pytest

from durableq import Busy, DurableQ
from durableq.dashboard.look import Health, Look
from durableq.dashboard.redaction import Redaction
from durableq.model.health import Finding
from tests.dashboard.client import Client, Page
from tests.support import scaled, wait_for


def test_the_overview_counts(dq: DurableQ, client: Client) -> None:
    dq.queue("orders").send_many([{"n": 1}, {"n": 2}])
    dq.queue("mail", paused=True).send({"n": 3}, delay=60)
    page = client.page("/")
    assert "orders no worker 2 0 0 0 0 0" in page.text
    assert "mail paused 0 1 0 0 0 0" in page.text
    assert "sqlite 3." in page.text


def test_dead_letters_are_counted_at_their_queue(dq: DurableQ, client: Client) -> None:
    dq.queue("failed").send({"n": 1})
    for name in ("mail", "orders"):
        dq.queue(name, dead_letter_queue="failed")
    dq.queue("orders").send({"n": 2})
    dq.queue("orders").receive()[0].reject("no")
    page = client.page("/")
    assert "mail 0 0 0 0 0 0" in page.text
    assert "orders 0 0 0 0 1 0" in page.text
    assert "Dead1" in client.page("/queues/orders").text
    assert "Dead0" in client.page("/queues/mail").text


def test_the_receives_of_a_dead_letter_are_those_before_it_died(
    dq: DurableQ, client: Client
) -> None:
    orders = dq.queue("orders")
    waiting, dead = orders.send({"n": 1}, delay=60), orders.send({"n": 2})
    orders.receive()[0].reject("no")
    assert "Receives1 before it died, 0 since" in client.page(f"/messages/{dead}").text
    assert "Receives0" in client.page(f"/messages/{waiting}").text


def test_the_overview_has_the_health(client: Client) -> None:
    assert wait_for(lambda: "being checked" not in client.page("/").text, what="the health")


def test_the_health_page_shows_a_recent_check_again(
    dq: DurableQ, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "no running worker is registered, so none handles 'orders'"
    assert "checked just now" in client.page("/health?check=1").text
    dq.queue("orders").send(1)
    assert nobody not in client.page("/health").text
    assert nobody in client.page("/health?check=1").text
    monkeypatch.setattr("durableq.dashboard.look.HEALTH_SECONDS", 0)
    dq.queue("orders").receive()[0].complete()
    assert nobody not in client.page("/health").text, "an old check is made again"


@pytest.mark.parametrize("ask", [Look.recent, Look.check])
def test_several_who_ask_for_the_health_share_a_check(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Look], Health]
) -> None:
    look, all_ask, meeting = Look(dq, Redaction()), Barrier(4), Barrier(2)
    ran, beside_another = [], []

    def examine(url: str) -> list[Finding]:
        ran.append(url)
        with suppress(BrokenBarrierError):  # no other check came
            meeting.wait(0.2)
            beside_another.append(url)
        return []

    def asked(_: int) -> Health:
        all_ask.wait(scaled(20))
        look.health()
        return ask(look)

    monkeypatch.setattr("durableq.admin.operations.examine", examine)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(asked, range(4)))
    assert beside_another == []
    assert len(ran) == 1 or ask is Look.check
    assert look.health() in found
    assert look.recent() is look.health()


def test_the_health_page_audits_on_request(client: Client) -> None:
    page = client.page("/health")
    assert "quick_check: ok" in page.text
    assert "as its counters say" not in page.text
    assert "orders: 0 messages, as its counters say" in client.page("/health?audit=1").text


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/nowhere", 404, "There is no such page."),
        ("/queues/nothing", 404, "There is no queue 'nothing'"),
    ],
)
def test_errors_are_sentences(client: Client, path: str, status: int, sentence: str) -> None:
    page = client.page(path)
    assert page.status == status
    assert sentence in page.text


def test_an_unavailable_store_is_a_sentence(
    dq: DurableQ, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise Busy("The file is busy.")

    monkeypatch.setattr(dq.store, "queue", busy)
    page = client.page("/queues/orders")
    assert (page.status, "The file is busy." in page.text) == (503, True)


def test_a_defect_shows_no_traceback(
    dq: DurableQ,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret of the code")

    monkeypatch.setattr(dq.store, "queue", broken)
    with caplog.at_level(logging.WARNING, "durableq.dashboard"):
        page = client.page("/queues/orders")
    assert page.status == 500
    assert "which is a defect: RuntimeError." in page.text
    assert "secret" not in page.html
    assert "Traceback" not in page.html
    assert [record.getMessage() for record in caplog.records] == [
        "A page failed: RuntimeError: secret of the code"
    ]


@pytest.mark.parametrize(
    ("address", "sentence", "advice"),
    [
        ("/dead-letters?reason=hander_error", "no reason 'hander_error'", "handler_error, "),
        pytest.param(
            "/dead-letters?reason=hander_error&all=1",
            "no reason 'hander_error'",
            "The reasons are handler_error, ",
            id="reason",
        ),
        ("/dead-letters?all=0", "no all '0' for this page", "Leave it out, or write 1."),
        ("/queues/orders?state=raedy", "no state 'raedy' for this page", "or write ready or "),
        ("/queues/orders?by=body&text=x", "no by 'body' for this page", "text or key or id"),
        ("/queues/orders?text=x", "The search does not say by what.", "by=text or by=key or by=id"),
        ("/health?check=no", "no check 'no' for this page", "Leave it out, or write 1."),
        ("/health?audit=0", "no audit '0' for this page", "Leave it out, or write 1."),
        ("/dead-letters?queue=odrers", "There is no queue 'odrers'", ""),
        ("/keys?queue=odrers", "There is no queue 'odrers'", ""),
        ("/keys?queue=odrers&key=k", "There is no queue 'odrers'", ""),
    ],
)
def test_an_unknown_value_in_an_address_is_refused(
    client: Client, address: str, sentence: str, advice: str
) -> None:
    page = client.page(address)
    assert page.status in {400, 404}, page.text
    assert sentence in page.text
    assert advice in page.text


def test_messages_are_listed_newest_first_and_searched(dq: DurableQ, client: Client) -> None:
    ids = dq.queue("orders").send_many([{"n": n} for n in range(60)])
    one = dq.queue("orders").send({"name": "Ada"}, key="the key", delay=60)

    def listed(page: Page) -> list[str]:
        links = page.values("a", "href")
        return [link.rpartition("/")[2] for link in links if link.startswith("/messages/")]

    first = client.page("/queues/orders")
    assert listed(first) == [one, *reversed(ids[11:])]
    (older,) = [link for link in first.values("a", "href") if "before=" in link]
    assert listed(client.page(older)) == [*reversed(ids[:11])]
    for by, text in (("text", "Ada"), ("key", "the key"), ("text", "")):
        query = {"by": by, "text": text, "state": "delayed"}
        assert listed(client.page("/queues/orders", params=query)) == [one]
    assert listed(client.page("/queues/orders", params={"by": "key", "text": "none"})) == []
    page = client.page("/queues/orders", params={"by": "id", "text": f" {one} "})
    assert page.text.startswith(f"Message {one}")
    assert client.page("/queues/orders", params={"by": "id", "text": "../x?y"}).status == 404


def test_the_progress_of_a_message_is_on_its_page_and_on_that_of_its_queue(
    dq: DurableQ, client: Client
) -> None:
    orders = dq.queue("orders")
    orders.send_many([{"n": 1}, {"n": 2}])
    first, second = orders.receive(2)
    assert "In progress" not in client.page("/queues/orders").text
    first.progress(0.4, "<b>page 4</b> of 10")
    wait_for(lambda: orders.progress(first.id) is not None)
    assert "40 % <b>page 4</b> of 10 reported" in client.page(f"/messages/{first.id}").text
    assert "reported" not in client.page(f"/messages/{second.id}").text
    assert f"{first.id} 40 % <b>page 4</b> of 10" in client.page("/queues/orders").text


def test_long_times_of_settings_have_a_unit_for_people(dq: DurableQ, client: Client) -> None:
    dq.queue("orders", retention=1_209_600, visibility_timeout=30)
    dq.queue("mail", retention=5400, visibility_timeout=150)
    shown = client.page("/queues/orders").text
    assert "1209600 s (14 d)" in shown
    assert "visibility timeout30 s" in shown
    inexact = client.page("/queues/mail").text
    assert "(1 h)" not in inexact
    assert "(2 min)" not in inexact

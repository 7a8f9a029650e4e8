"""A Prometheus scrapes the dashboard under the same rules of access as a browser."""

import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from durableq import Busy, DurableQ
from durableq.dashboard import Access
from tests.dashboard.client import Client

TOKEN = "a-token-of-sixteen-characters"


def ready(text: str) -> float:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    wanted = {"queue": "orders", "state": "ready"}
    (sample,) = [s for s in families["durableq_messages"].samples if s.labels == wanted]
    return float(sample.value)


def test_the_metrics_are_text_for_prometheus(either: DurableQ) -> None:
    either.queue("orders").send_many([1, 2, 3])
    with Client.of(either) as client:
        answer = client.get("/metrics")
    assert (answer.status_code, ready(answer.text)) == (200, 3)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        ("", 401),
        ("Bearer another-token-of-many-characters", 401),
        ("Bearer", 401),
        ("Bearer \xff", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_a_scraper_needs_a_token(dq: DurableQ, header: str, status: int) -> None:
    with Client.of(dq, access=Access(tokens={TOKEN: "prometheus"})) as client:
        given = [(b"authorization", header.encode("latin-1"))] if header else []
        answer = client.get("/metrics", headers=given)
        assert answer.status_code == status
        assert ("durableq_messages" in answer.text) == (status == 200)
        if status == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.text == "The metrics need the header Authorization: Bearer TOKEN.\n"


def test_the_token_of_a_scraper_changes_nothing(dq: DurableQ) -> None:
    with Client.of(dq, access=Access(tokens={TOKEN: "prometheus"})) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        assert client.page("/workers").status == 200
        assert client.act("/queues/orders/pause").status == 403
    assert not dq.store.settings("orders").paused


def test_a_proxy_names_the_scraper_too(dq: DurableQ) -> None:
    with Client.of(dq, access=Access(header="X-User")) as client:
        assert client.get("/metrics").status_code == 403
        assert client.get("/metrics", headers={"x-user": "prometheus"}).status_code == 200


def test_without_the_library_it_is_a_sentence(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = client.get("/metrics")
    assert answer.status_code == 501
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "Install it: pip install 'durableq[metrics]'." in answer.text


def test_an_unavailable_store_is_a_line_of_text(
    dq: DurableQ, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise Busy("The file is busy.")

    monkeypatch.setattr(dq.store, "queues", busy)
    answer = client.get("/metrics")
    assert (answer.status_code, answer.text) == (503, "The file is busy.\n")

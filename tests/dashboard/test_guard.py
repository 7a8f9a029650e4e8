"""Requests that must not reach a page, or change anything."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from durableq import DurableQ, InvalidInput
from durableq.dashboard import Access, dashboard
from durableq.runtime.tokens import read_tokens
from tests.dashboard.client import BASE, Client, Page

TOKEN = "a-token-of-sixteen-characters"


def is_paused(dq: DurableQ) -> bool:
    return bool(dq.store.settings("orders").paused)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost:8080", 200),
        ("[::1]:8080", 200),
        ("Shop.example:8080", 200),
        ("evil.example:8080", 421),
        ("shop.example.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_another_host_is_refused(dq: DurableQ, host: str, status: int) -> None:
    with Client.of(dq, access=Access(hosts=["shop.example"])) as client:
        page = client.page("/", headers={"host": host})
    assert page.status == status
    assert ("is not served as" in page.text) == (status == 421)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://127.0.0.1:9", "http://[", "127.0.0.1:8080"],
)
def test_another_origin_is_refused(dq: DurableQ, client: Client, origin: str) -> None:
    page = client.act("/queues/orders/pause", origin=origin)
    assert (page.status, is_paused(dq)) == (403, False)
    assert "may change nothing here" in page.text


@pytest.mark.parametrize("token", ["", "another"])
def test_a_form_without_the_token_is_refused(dq: DurableQ, client: Client, token: str) -> None:
    client.get("/")
    page = client.act("/queues/orders/pause", form_token=token)
    assert (page.status, is_paused(dq)) == (403, False)
    assert "no valid token" in page.text


def test_a_form_without_a_cookie_is_refused(dq: DurableQ, client: Client) -> None:
    page = client.act("/queues/orders/pause", form_token="")
    assert (page.status, is_paused(dq)) == (403, False)


def test_an_action_is_no_page(dq: DurableQ, client: Client) -> None:
    page = client.page("/queues/orders/pause")
    assert (page.status, is_paused(dq)) == (405, False)


def test_read_only_has_no_actions(dq: DurableQ) -> None:
    _ = dq.store
    with Client.of(dq, read_only=True) as client:
        page = client.page("/queues/orders")
        assert page.status == 200
        assert "post" not in page.values("form", "method")
        assert client.act("/queues/orders/pause").status == 404
    assert not is_paused(dq)


def test_every_answer_has_the_policy(client: Client) -> None:
    for path in ("/", "/nowhere", "/static/style.css"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"


def test_a_token_lets_in(dq: DurableQ) -> None:
    with Client.of(dq, access=Access(tokens={TOKEN: "ada"})) as client:
        assert client.page("/").text.startswith("Log in")
        assert client.get("/", headers={"hx-request": "true"}).status_code == 403
        assert client.act("/queues/orders/pause").status == 403
        assert "no such token" in client.act("/login", token="another").text
        assert client.act("/login", token=TOKEN).status == 200
        assert "Log out ada" in client.page("/").text
        assert client.act("/queues/orders/pause").status == 200
        client.act("/logout")
        assert client.act("/queues/orders/resume").status == 403
    assert is_paused(dq)


def test_a_login_ends(dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(tokens={TOKEN: "ada"})
    cookie = access.login(TOKEN)
    assert access.person_logged_in(cookie) == "ada"
    assert Access(tokens={TOKEN + "x": "ada"}).person_logged_in(cookie) is None
    ends, _, signature = cookie.partition(".")
    assert access.person_logged_in(f"{int(ends) + 1}.{signature}") is None
    assert access.person_logged_in("9" * 5000 + "." + signature) is None
    assert access.person_logged_in("") is None
    monkeypatch.setattr("time.time", lambda: int(ends) + 1.0)
    assert access.person_logged_in(cookie) is None


def test_a_trusted_header_names_the_person(dq: DurableQ) -> None:
    with Client.of(dq, access=Access(header="X-User")) as client:
        assert client.page("/").status == 403
        page = client.page("/", headers={"x-user": "ada <lovelace>"})
        assert (page.status, "ada <lovelace>" in page.text) == (200, True)


def test_tokens_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_tokens(path, "dashboard")
    path.write_text(f"# who\n\nada lovelace {TOKEN}\n{TOKEN}2\n")
    assert read_tokens(path, "dashboard") == {TOKEN: "ada lovelace", TOKEN + "2": "dashboard"}
    path.write_text("# none\n")
    with pytest.raises(InvalidInput, match="has no token"):
        read_tokens(path, "dashboard")
    with pytest.raises(InvalidInput, match="at least 16 characters"):
        Access(tokens={"short": "ada"})
    with pytest.raises(InvalidInput, match="no name of an HTTP header"):
        Access(header="X User")
    with pytest.raises(InvalidInput, match="no name of a host, without a port"):
        Access(hosts=["shop.example:8080"])


def test_it_is_mounted_in_another_application(dq: DurableQ) -> None:
    app = Starlette(routes=[Mount("/ops/queues", dashboard(dq))])
    with Client(app, base_url=BASE) as client:
        page = client.page("/ops/queues/")
        assert page.status == 200
        links = [*page.values("a", "href"), *page.values("link", "href")]
        own = [link for link in links if not link.startswith("#")]
        assert own
        assert all(link.startswith("/ops/queues/") for link in own)
        assert {client.get(link).status_code for link in own} == {200}
        token = client.cookies["durableq_form"]
        answer = client.post(
            "/ops/queues/queues/orders/pause", data={"form_token": token}, headers={"origin": BASE}
        )
        assert (answer.status_code, answer.url.path) == (200, "/ops/queues/queues/orders")
        assert "orders is paused" in Page(200, answer.text).text
    assert is_paused(dq)


def test_a_long_form_is_refused(client: Client) -> None:
    assert client.act("/queues/orders/pause", more="x" * (5 << 20)).status == 413
    many = {f"n{number}": "" for number in range(1_001)}
    assert client.act("/queues/orders/pause", **many).status == 400

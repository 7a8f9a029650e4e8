"""Nothing of a message becomes markup, in any field of any page."""

import json
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.dashboard import Access
from durableq.dashboard.pages import body
from durableq.model.message import Failure, Reason
from durableq.store.core import Capability
from tests.dashboard.client import Client, Page

CORPUS = (
    "<script>hacked=1</script>",
    "\"><img src=x onerror='hacked=1'>",
    "'><svg/onload=hacked=1>",
    "javascript:hacked=1",
    "</title></pre></textarea><script>hacked=1</script>",
    "{{ 7777 * 7777 }}{% raw %}",
    "&lt;b&gt; <!-- ]]>",
    "\u202egpj.exe\x1b[31m\x00\x07",
)
TEXT = " ".join(CORPUS)
#: The only elements that a page may have in its own right.
SCRIPTS = {
    *("/static/app.js", "/static/chart.js"),
    *("/static/vendor/htmx.min.js", "/static/vendor/uPlot.iife.min.js"),
}


def poisoned(dq: DurableQ) -> list[str]:
    """Put the corpus into every field that takes a text; return ids of messages."""
    orders = dq.queue("orders", max_receives=1, group_concurrency=1)
    value: dict[str, Any] = {TEXT: TEXT, "list": [TEXT, {"x": TEXT}]}
    dead = orders.send(value, key=TEXT[:200], group=TEXT[:100], attributes={"a": TEXT[:200]})
    received = dq.store.receive("orders", 1).messages[0].receipt
    assert received is not None
    failure = Failure(Reason.HANDLER_ERROR, TEXT, TEXT, "\n".join(CORPUS), place=TEXT)
    dq.store.fail([(received, failure)], actor=TEXT[:100])
    waiting = orders.send(TEXT, key="w" + TEXT[:200], group=TEXT[:100], delay=60)
    blob = orders.send(TEXT.encode())
    dq.store.require(Capability.CONTROL).reschedule([waiting], delay_ms=5000, actor=TEXT[:100])
    return [dead, waiting, blob]


def check(page: Page) -> None:
    scripts = [src.partition("?")[0] for src in page.values("script", "src")]
    assert len(scripts) == page.html.count("<script")
    assert set(scripts) <= SCRIPTS
    assert not [tag for tag, _ in page.elements if tag in {"img", "iframe", "object", "style"}]
    names = [name for _, attributes in page.elements for name in attributes]
    assert not [name for name in names if name.startswith("on") or name == "style"]
    assert not [link for link in page.values("a", "href") if link.startswith("javascript")]
    assert "\u202e" not in page.html
    assert "\x1b" not in page.html
    assert "60481729" not in page.text


def test_texts_of_messages_stay_texts(dq: DurableQ, client: Client) -> None:
    dead, waiting, blob = poisoned(dq)
    (group,) = dq.store.require(Capability.DEAD_LETTERS).dead_letter_groups()
    letters = {"queue": "orders", "group": group.fingerprint, "reason": group.reason}
    pages = {
        path: client.page(path, params=letters if path == "/dead-letters" else None)
        for path in (
            *("/", "/workers", "/health", "/queues/orders", "/queues/orders-dlq"),
            *(f"/messages/{dead}", f"/messages/{waiting}", f"/messages/{blob}", "/dead-letters"),
        )
    }
    for page in pages.values():
        assert page.status == 200
        check(page)
    for path in ("/dead-letters", "/queues/orders-dlq", f"/messages/{dead}"):
        assert "<script>hacked=1</script>" in pages[path].text  # it is there, as a text


@pytest.mark.parametrize("text", CORPUS[:6])
def test_addresses_and_notices_stay_texts(client: Client, text: str) -> None:
    for path in ("/queues/{}", "/messages/{}", "/dead-letters", "/{}"):
        check(client.page(path.format("x"), params={"queue": text, "group": text, "after": text}))
    check(client.page(f"/queues/{text.replace('/', '')}"))
    client.cookies.set("durableq_notice", "%3Cscript%3Ehacked%3D1%3C%2Fscript%3E")
    check(client.page("/"))


@pytest.mark.parametrize("text", CORPUS)
def test_texts_of_persons_and_rules_stay_texts(dq: DurableQ, tmp_path: Path, text: str) -> None:
    dead, waiting, _ = poisoned(dq)
    path = tmp_path / "rules.toml"
    name, value = "".join(filter(str.isprintable, text)).replace('"', ""), json.dumps(text)
    rule = f'[[rule]]\nname = {json.dumps(name)}\nreason = {value}\nthen = "retry"\n'
    path.write_text(f"{rule}[rule.set]\n{json.dumps(name)} = {value}\n")
    with Client.of(dq, rules=path, access=Access(header="X-User")) as client:
        client.headers["x-user"] = name or "ada"
        for action in ("run-now", "reschedule"):
            check(client.act(f"/messages/{waiting}/{action}", delay="60", note=text))
        for action in ("hold", "release", "hold"):
            check(client.act(f"/dead-letters/{action}", id=dead, note=text))
        seen = client.page(f"/messages/{dead}").field("seen")
        fields = {"seen": seen, "note": text, "delay": text}
        check(client.act(f"/messages/{dead}/retry", body=text, **fields))  # not JSON
        check(client.act(f"/messages/{dead}/retry", body=value, **fields))  # no delay
        for page in (f"/messages/{dead}", "/dead-letters/dry-run", "/dead-letters?all=1"):
            check(client.page(page))
        check(client.act(f"/messages/{dead}/retry", body=value, seen=seen, note=text))
        check(client.page(f"/messages/{dead}"))


def test_a_body_is_downloaded_as_a_file(dq: DurableQ, client: Client) -> None:
    dead, waiting, blob = poisoned(dq)
    answer = client.get(f"/messages/{blob}/body")
    assert answer.content == TEXT.encode()
    assert answer.headers["content-type"] == "application/octet-stream"
    answer = client.get(f"/messages/{waiting}/body")
    assert answer.json() == TEXT
    assert answer.headers["content-disposition"] == f'attachment; filename="message-{waiting}.json"'
    assert client.get("/messages/999/body").status_code == 404
    assert client.get(f"/messages/{dead}/body").status_code == 200


def test_a_large_body_is_cut(dq: DurableQ, client: Client) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    one = dq.queue("orders").send({"many": list(range(3000)), "long": "x" * 50_000, "deep": deep})
    page = client.page(f"/messages/{one}")
    assert "3,000 values" in page.text
    assert "more: in the download" in page.text
    assert len(page.html) < 120_000


def test_a_tree_has_all_kinds() -> None:
    made = body.tree('{"a": [1, 2.5, "x", true, false, null, {}]}')
    assert made is not None
    (inner,) = made.inside
    assert (made.kind, made.text, inner.text) == ("object", "1 field", "7 values")
    assert [(each.kind, each.text) for each in inner.inside] == [
        ("number", "1"),
        ("number", "2.5"),
        ("text", "x"),
        ("word", "true"),
        ("word", "false"),
        ("word", "null"),
        ("object", "0 fields"),
    ]
    assert body.tree(b"\xff") is None
    assert body.tree("not json") is None

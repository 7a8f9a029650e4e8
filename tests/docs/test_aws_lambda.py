"""docs/AWS_LAMBDA.md works as written: its code runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from tests.contrib.lambdas import Context, event, failed, record

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "AWS_LAMBDA.md").read_text()


def block(name: str, language: str = "python") -> str:
    found = re.search(rf"<!-- {re.escape(name)} -->\n```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found[1]


def run(text: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(text, "AWS_LAMBDA.md", "exec"), names)
    return names


def test_the_table_links_each_section() -> None:
    titles = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    linked = re.findall(r"\[([^]]*)\]\(#([^)]*)\) \|$", PAGE, re.MULTILINE)
    assert [title for title, _ in linked] == titles
    assert all(re.sub(r"[^a-z -]", "", t.lower()).replace(" ", "-") == a for t, a in linked)


def test_the_handler_answers_with_the_message_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(block("try.py"), run(block("shop.py"), {}))
    assert capsys.readouterr().out == "order 1, receive 1\n"
    assert list(tmp_path.iterdir()) == []


def test_the_keyed_handler_charges_once(postgres_url: str) -> None:
    server, _, name = postgres_url.rpartition("schema=")
    url = f"{server}options=-csearch_path%3D{name}&schema={name}"
    names = run(
        block("keyed.py").replace("postgresql://shop@db.internal/shop?schema=durableq", url), {}
    )
    dq: DurableQ = names["dq"]
    with dq:
        with dq.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE charge (order_id int)")
        for _ in range(2):
            answer = names["handler"](event(record("1", '{"id": 7}')), Context())
            assert failed(answer) == []
        with dq.engine.begin() as connection:
            assert list(connection.exec_driver_sql("SELECT * FROM charge").scalars()) == [7]

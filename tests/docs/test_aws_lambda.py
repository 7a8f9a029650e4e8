"""docs/AWS_LAMBDA.md works as written: its code runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.cli import functions
from durableq.store.core import Capability
from tests.cli.console import forked
from tests.contrib.lambdas import Context, event, failed, record

URL = "postgresql://shop@db.internal/shop?schema=durableq"
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
    code, here = tmp_path / "code", tmp_path / "here"
    code.mkdir()
    here.mkdir()
    (code / "shop.py").write_text(block("shop.py"))
    monkeypatch.syspath_prepend(code)
    monkeypatch.setitem(sys.modules, "shop", None)  # another test's
    monkeypatch.delitem(sys.modules, "shop")
    monkeypatch.chdir(here)
    run(block("try.py"), {})
    assert capsys.readouterr().out == "order 1, receive 1\n"
    assert list(here.iterdir()) == []


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


def test_the_function_runs_on_a_file(tmp_path: Path) -> None:
    (tmp_path / "fn.py").write_text(block("fn.py"))
    (tmp_path / "orders.jsonl").write_text('{"id": 1, "total": 5}\n{"id": 2, "total": -5}\n')
    create, produce, work, listing = (
        shlex.split(line.removeprefix("$ durableq "))
        for line in block("fn", "console").splitlines()
    )
    assert forked(*create, cwd=tmp_path).code == 0
    assert forked(*produce, cwd=tmp_path).code == 0
    worked = forked(*work, cwd=tmp_path)
    assert worked.code == 0
    assert "order 1" in worked.err + worked.out
    assert "BatchProcessingError" in forked(*listing, cwd=tmp_path).out


def test_the_idempotent_function_charges_once(postgres_tables_url: str) -> None:
    text = block("idempotent.py").replace(URL, postgres_tables_url)
    names = run(text, {"__name__": "idempotent"})
    dq: DurableQ = names["dq"]
    with dq:
        first = names["handler"]({"order_id": 7, "total": 5}, Context())
        assert names["handler"]({"order_id": 7, "total": 5, "again": 1}, Context()) == first
        assert first == {"charged": 5}
        [entry] = dq.store.require(Capability.ONCE).once_entries(10)
        assert entry.key.startswith("powertools/")


def test_the_page_names_the_bounds_of_the_options() -> None:
    for bound in (functions.MAX_BATCH, functions.MAX_WINDOW_SECONDS, functions.MAX_TIMEOUT_SECONDS):
        assert f"{bound:,}" in PAGE

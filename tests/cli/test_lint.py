"""`lint`: findings about queues, handlers and messages that another store does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin import porting
from durableq.admin.porting import Target, lint
from durableq.model.health import Finding, Level
from durableq.model.settings import QueueSettings
from tests.cli.console import Run

APP = """
from durableq import DurableQ

dq = DurableQ("shop.db")
orders = dq.queue("orders"{settings})

@dq.handler("orders"{options})
def handle(message):
    {body}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Write an application, and return its name; each test has one of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(settings: str = "", options: str = "", body: str = "pass") -> str:
        name = f"shop_{abs(hash(str(tmp_path)))}"
        text = APP.format(
            settings=settings and f", {settings}", options=options and f", {options}", body=body
        )
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}:dq"

    return make


def found(run: Run, spec: str, target: str) -> list[tuple[str, str, str]]:
    """Return the level, check and text of each finding but that about the missing store."""
    told = run("lint", "--target", target, "--app", spec, "--json")
    assert told.code == (0 if told.json["healthy"] else 6)
    findings = told.json["findings"]
    assert all(each["advice"] for each in findings if each["level"] != "ok")
    return [(f["level"], f["check"], f["what"]) for f in findings if f["check"] != "store"]


SQS = [
    ({"settings": "rate=5"}, "bad", "limits", "orders: SQS has no rate"),
    ({"settings": "max_in_flight=3"}, "bad", "limits", "orders: SQS has no max_in_flight"),
    ({"settings": "breaker=True"}, "bad", "limits", "orders: SQS has no breaker"),
    ({"settings": "max_backlog=3"}, "bad", "limits", "orders: SQS has no max_backlog"),
    ({"settings": "expires_in=60"}, "bad", "limits", "orders: SQS has no expires_in"),
    ({"settings": "priority_aging=60"}, "bad", "limits", "orders: SQS has no priority_aging"),
    ({"settings": "delay=901"}, "bad", "delay", "its delay is"),
    ({"settings": "retention=15 * 86400"}, "bad", "retention", "SQS has 60 s to 14 days"),
    ({"settings": "max_body_bytes=(1 << 20) + 1"}, "bad", "size", "more than 1 MiB"),
    ({"settings": "group_concurrency=1"}, "bad", "fifo", "needs a FIFO queue"),
    ({"settings": "group_concurrency=2"}, "bad", "fifo", "SQS has 1 (FIFO), or none"),
    ({"settings": "deduplication_window=60"}, "warn", "deduplication", "has fixed"),
    ({"options": "batch=11"}, "warn", "batch", "a receive of SQS has at most 10"),
    ({"body": "message.transaction()"}, "bad", "call", ":9: SQS has no transaction()"),
    ({"body": "orders.cancel('1')"}, "bad", "call", "SQS has no cancel()"),
    ({"body": "orders.send(1, key='k')"}, "bad", "call", "SQS has no key= at a send"),
    ({"body": "orders.send(1, priority=1)"}, "bad", "call", "SQS has no priority= at a send"),
    ({"body": "orders.send(1, delay=901)"}, "bad", "delay", "a delay of 901 s"),
    ({"body": "orders.send(1, delay=16 * 60)"}, "bad", "delay", "a delay of 960 s"),
    ({"body": "orders.send(1, delay=timedelta(minutes=16))"}, "bad", "delay", "a delay of 960 s"),
    ({"body": "orders.send(1, delay=dt.timedelta(0, 901))"}, "bad", "delay", "a delay of 901 s"),
    ({"body": "orders.send(1, delay=8 * timedelta(hours=1))"}, "bad", "delay", "of 28800 s"),
    ({"body": "orders.send(1, delay=wait)"}, "warn", "delay", "computed when it is sent"),
    ({"body": "orders.send(1, delay=timedelta(hours=n))"}, "warn", "delay", "computed when it"),
    ({"body": "orders.send(1, delay=1 / 0)"}, "warn", "delay", "computed when it is sent"),
    ({"body": "orders.send(1, delay=2 ** 9)"}, "warn", "delay", "computed when it is sent"),
    ({"body": "orders.send(1, delay=timedelta(**n))"}, "warn", "delay", "computed when it is sent"),
    ({"body": "orders.send(1, at=noon)"}, "bad", "call", "SQS has no at= at a send"),
    ({"body": "orders.send(1, group='g')"}, "warn", "fifo", "group= needs a FIFO queue"),
]


@pytest.mark.parametrize(("parts", "level", "check", "what"), SQS)
def test_each_difference_to_sqs_is_found(
    run: Run, write: object, parts: dict[str, str], level: str, check: str, what: str
) -> None:
    findings = found(run, write(**parts), "sqs")  # type: ignore[operator]
    assert [(each[0], each[1]) for each in findings] == [(level, check)]
    assert what in findings[0][2]


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {
            "settings": "delay=900, retention=14 * 86400, max_body_bytes=1 << 20, "
            "visibility_timeout=43200"
        },
        {"options": "batch=10"},
        {"body": "orders.send(1, delay=900, attributes={'a': '1'})"},
        {"body": "orders.send(1, delay=timedelta(minutes=15), at=None)"},
        {"body": "orders.send(1, delay=None)"},
        {"body": "orders.send(1, delay=15 * 60)"},
    ],
)
def test_an_application_within_the_limits_of_sqs_has_no_findings(
    run: Run, write: object, parts: dict[str, str]
) -> None:
    assert found(run, write(**parts), "sqs") == []  # type: ignore[operator]


@pytest.mark.parametrize(
    ("parts", "check", "what"),
    [
        ({"settings": "min_free_bytes=1"}, "min_free_bytes", "has no effect"),
        ({"body": "tx.execute('SELECT 1')"}, "sql", "cannot be judged from here"),
        ({"body": "orders.send(1, connection=None)"}, "connection", "joins a connection"),
    ],
)
def test_each_difference_to_postgresql_is_found(
    run: Run, write: object, parts: dict[str, str], check: str, what: str
) -> None:
    [finding] = found(run, write(**parts), "postgres")  # type: ignore[operator]
    assert finding[:2] == ("warn", check)
    assert what in finding[2]


def test_a_lint_changes_nothing_and_creates_no_database(
    run: Run, write: object, tmp_path: Path
) -> None:
    spec = write(settings="rate=5")  # type: ignore[operator]
    shown = run("lint", "--target", "sqs", "--app", spec)
    assert shown.code == 6
    assert shown.lines[-1] == f"{spec} to sqs: something does not port, see above."
    assert "there is no store yet" in shown.out
    assert not (tmp_path / "shop.db").exists()
    with DurableQ(tmp_path / "shop.db") as dq:
        dq.queue("mine")
        dq.init()
    assert run("lint", "--target", "postgres", "--app", spec).code == 0
    with DurableQ(tmp_path / "shop.db") as dq:
        names = [info.name for info in dq.store.queues()]  # type: ignore[attr-defined]
    assert names == ["mine", "mine-dlq"]


# ---- messages in the store


def findings_of(app: DurableQ, target: Target) -> dict[str, Finding]:
    return {each.name: each for each in lint(app, target, app.store)}


def test_messages_that_do_not_port_are_counted(tmp_path: Path) -> None:
    with DurableQ(tmp_path / "shop.db") as dq:
        queue = dq.queue("orders", max_body_bytes=2 << 20)
        with DurableQ(tmp_path / "shop.db") as plain:
            assert findings_of(plain, Target.POSTGRES).keys() == {"porting"}
        queue.send("a", key="k\0", priority=3)
        queue.send("b", key="done")
        for message in queue.receive(10):
            message.complete()
        queue.send(b"\x00", group="two words")
        queue.send("x" * (1 << 20), delay=1000)
        queue.send("c", key="j\0")
        with DurableQ(tmp_path / "shop.db") as plain:
            postgres = findings_of(plain, Target.POSTGRES)
            sqs = findings_of(plain, Target.SQS)
    assert postgres["nul"].level is Level.BAD
    assert "orders: 2 keys or groups have the character U+0000" in postgres["nul"].what
    assert postgres["nul"].queue == "orders"
    for name in ("keys", "size", "bytes", "delay", "group"):
        assert sqs[name].level is Level.BAD
        assert sqs[name].queue == "orders"
    assert "3 messages and records have a key" in sqs["keys"].what


def test_each_setting_without_a_counterpart_is_one() -> None:
    settings = QueueSettings().as_dict()
    assert porting._NO_SETTING.keys() <= settings.keys()

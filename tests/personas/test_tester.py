"""A pytest of a handler: a project of another team, with its own package, conftest and tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contrib.running import run_pytest

PROJECT = {
    "bookshop/__init__.py": "",
    "bookshop/queue.py": """\
from dataclasses import dataclass

from durableq import Delivery, DurableQ, Reject, RetryLater

dq = DurableQ("postgresql://nobody@no.such.host/bookshop")
orders = dq.queue("orders", max_receives=3, backoff_base=10)
mails = dq.queue("mails")


@dataclass
class Order:
    id: int
    pages: int


@dq.handler("orders")
def print_book(message: Delivery[Order]):
    order = message.body
    if not order.pages:
        raise Reject("an empty book")
    for page in range(order.pages):
        message.progress((page + 1) / order.pages, f"page {page + 1} of {order.pages}")
    mails.send({"order": order.id}, key=f"order-{order.id}")
    return {"pages": order.pages}


@dq.handler("mails")
async def send_mail(message):
    if message.receive_count == 1:
        raise RetryLater(60)
""",
    "conftest.py": """\
import pytest

from bookshop.queue import dq


@pytest.fixture(autouse=True)
def clock(durableq_app):
    return durableq_app(dq)
""",
    "tests/test_orders.py": """\
import pytest
from bookshop.queue import Order, dq, mails, orders
from durableq.contrib.pytest import Ran, assert_sent, crash_at, run_one, run_pending


def test_a_book_is_printed_and_mailed(clock):
    orders.send(Order(7, 3), key="order-7")
    assert run_one(dq) == Ran(completed=1)
    assert orders.result("order-7") == {"pages": 3}
    assert_sent(mails, {"order": 7}, key="order-7")
    assert run_pending(dq) == Ran(failed=1)
    clock.advance(minutes=1)
    assert run_pending(dq) == Ran(completed=1)


def test_an_empty_book_is_dead():
    orders.send(Order(8, 0))
    assert run_pending(dq) == Ran(dead=1)


def test_a_body_of_another_type_is_dead():
    orders.send({"id": "seven"})
    ran = run_pending(dq)
    assert ran == Ran(dead=1)
    assert "pages" in str(ran.errors[0])


def test_a_killed_worker_mails_once(clock):
    orders.send(Order(9, 1))
    with crash_at("after handler"):
        run_pending(dq)
    clock.advance(minutes=1)
    assert run_one(dq) == Ran(completed=1)
    assert_sent(mails, {"order": 9}, count=2)  # the mail's key makes one of the two a duplicate
    run_pending(dq)
    clock.advance(minutes=2)
    run_pending(dq)
    counters = mails.info().counters
    assert (counters.completed, counters.duplicates) == (1, 1)
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_the_teams_tests_pass_and_open_no_store(project: Path) -> None:
    ran = run_pytest(project, "tests")
    assert "4 passed" in ran.stdout, ran.stdout + ran.stderr
    left = {path.name for path in project.iterdir()} - {"__pycache__"}
    assert left == {"bookshop", "conftest.py", "tests"}


def test_a_test_that_expects_another_outcome_fails_with_the_real_one(project: Path) -> None:
    (project / "tests" / "test_orders.py").write_text("""\
from bookshop.queue import Order, dq, mails, orders
from durableq.contrib.pytest import Ran, assert_sent, run_one


def test_the_outcome():
    orders.send(Order(8, 0))
    assert run_one(dq) == Ran(completed=1)


def test_the_mail():
    orders.send(Order(7, 3))
    run_one(dq)
    assert_sent(mails, {"order": 8})
""")
    ran = run_pytest(project, "tests")
    assert "2 failed" in ran.stdout, ran.stdout + ran.stderr
    assert "Reject: an empty book; moved to the dead-letter queue" in ran.stdout
    assert "These were sent:" in ran.stdout
    assert "2: {'order': 7}, key 'order-7'" in ran.stdout

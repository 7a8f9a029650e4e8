"""Django: sends join its transactions, handlers settle in them, and a killed process leaves both
the rows and the message, or neither."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import plain_postgres
from tests.contrib.site import BEGIN, Site
from tests.engine import plain
from tests.engine.plain import Place
from tests.process.child import Nursery
from tests.support import wait_for


@pytest.fixture(params=plain.ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return tmp_path / "shop.db"
    server, _, name = request.getfixturevalue("postgres_url").rpartition("schema=")
    with plain_postgres.connection(f"{server}schema={name}") as connected:
        connected.execute(f"CREATE SCHEMA {name}")
    return f"{server}options=-csearch_path%3D{name}&schema={name}"


@pytest.fixture
def site(place: Place, tmp_path: Path) -> Site:
    return Site(tmp_path, place)


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


def test_a_send_joins_the_transaction_that_is_open(site: Site) -> None:
    facts = site.script("""
with transaction.atomic():
    Order.objects.create(number=1)
    orders.send(1)
    orders.send_many([2, 3])
    unseen = orders.info().counters.sent
try:
    with transaction.atomic():
        Order.objects.create(number=4)
        orders.send(4)
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
with transaction.atomic():
    try:
        with transaction.atomic():
            Order.objects.create(number=5)
            orders.send(5)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    orders.send(6)
orders.send(7)
say(unseen=unseen, numbers=numbers(), sent=sent())
""")
    assert facts == {"unseen": 0, "numbers": [1], "sent": [1, 2, 3, 6, 7]}
    plain.check_sound(site.place)


CANNOT_JOIN = """
from django.db import IntegrityError
from durableq import Conflict

said = []
Order.objects.create(number=1)
with transaction.atomic():
    try:
        Order.objects.create(number=1)
    except IntegrityError:
        pass
    try:
        orders.send(1)
    except transaction.TransactionManagementError as error:
        said.append(str(error))
    transaction.set_rollback(True)
with transaction.atomic():
    try:
        orders.producer()
    except Conflict as error:
        said.append(str(error))
orders.send(2)
[message] = orders.receive()
with transaction.atomic():
    try:
        with message.transaction():
            pass
    except Conflict as error:
        said.append(str(error))
for use in ("tx.execute('SELECT 1')", "tx.session"):
    try:
        with message.transaction() as tx:
            Order.objects.create(number=9)
            eval(use)
    except Exception as error:
        said.append(str(error))
message.complete()
say(said=said, numbers=numbers())
"""


def test_a_send_that_cannot_join_is_refused(site: Site) -> None:
    facts = site.script(CANNOT_JOIN)
    expected = (
        "An error occurred in the current transaction",
        "A producer commits by itself",
        "it is the outermost transaction",
        "tx.execute runs SQLAlchemy's statements",
        "tx.session is SQLAlchemy's",
    )
    assert len(facts["said"]) == len(expected)
    assert all(one in said for one, said in zip(expected, facts["said"], strict=True))
    assert facts["numbers"] == [1]


def test_with_autocommit_off_a_send_joins_and_a_message_is_refused(site: Site) -> None:
    facts = site.script("""
from durableq import Conflict

numbers()  # a connection is there
transaction.set_autocommit(False)
orders.send(1)
transaction.rollback()
orders.send(2)
Order.objects.create(number=2)
transaction.commit()
transaction.set_autocommit(True)
[message] = orders.receive()
transaction.set_autocommit(False)
try:
    with message.transaction():
        Order.objects.create(number=3)
except Conflict as error:
    refused = str(error)
transaction.rollback()
transaction.set_autocommit(True)
message.complete()
say(refused=refused, body=message.body, numbers=numbers(), sent=sent())
""")
    assert "with autocommit off Django leaves the commit to you" in facts.pop("refused")
    assert facts == {"body": 2, "numbers": [2], "sent": []}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_other_calls_in_a_transaction_of_django_are_to_come_before_or_after_it(site: Site) -> None:
    facts = site.script("""
from durableq import Conflict

said = []
for call in (orders.receive, lambda: orders.cancel("1"), lambda: dq.once("k", int, ttl=10)):
    with transaction.atomic():
        try:
            call()
        except Conflict as error:
            said.append(str(error))
say(said=said)
""")
    assert len(facts["said"]) == 3
    assert all("make other calls before or after it" in one for one in facts["said"])


def test_handlers_of_each_module_work_in_transactions_of_django(site: Site) -> None:
    site.script("""
from shop.handlers import refunds

with transaction.atomic():
    Order.objects.create(number=7)
    orders.send({"number": 7}, key="order-7")
refunds.send(8)
say()
""")
    site.manage("durableq", "work", "--drain")
    facts = site.script("""
from shop.handlers import refunds

counted = refunds.info().counters
say(numbers=numbers(), completed=[counted.completed, orders.info().counters.completed])
""")
    assert facts == {"numbers": [7, 8], "completed": [1, 2]}
    assert (site.state(7), site.state(8)) == ("paid", "paid")
    plain.check_sound(site.place)


POST = """
answer = Client().post("/orders", {"number": 7}, content_type="application/json")
say(status=answer.status_code)
"""


def held(site: Site, at: str) -> dict[str, str]:
    """The environment of a process that stops at its first commit."""
    held = {"DJANGO_SETTINGS_MODULE": "held", "HOLD_AT": at}
    return held | {"HOLD": str(site.folder / "held-pid")}


def kill_held(site: Site) -> None:
    """Kill the process that stands at its commit."""
    file = site.folder / "held-pid"
    wait_for(lambda: file.exists() and file.read_text().endswith("\n"), what="its commit")
    os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(("at", "left"), [("before", 0), ("after", 1)])
def test_a_killed_service_leaves_the_row_and_the_message_or_neither(
    site: Site, nursery: Nursery, at: str, left: int
) -> None:
    site.script(POST.replace("7", "6"))  # the queue is there, and another order
    (site.folder / "post.py").write_text(BEGIN + POST)
    command = (sys.executable, "post.py")
    service = nursery.run(*command, cwd=site.folder, stdin=None, **held(site, at))
    kill_held(site)
    assert service.end() == -signal.SIGKILL
    assert not service.said
    assert (site.count("shop_order"), site.count("durableq_message")) == (1 + left, 1 + left)
    site.manage("durableq", "work", "--drain")
    assert site.count("durableq_message") == 0
    assert site.state(6) == "paid"
    if left:
        assert site.state(7) == "paid"
    plain.check_sound(site.place)


@pytest.mark.parametrize(("at", "left"), [("before", "new"), ("after", "paid")])
def test_a_killed_worker_leaves_the_rows_and_the_completion_or_neither(
    site: Site, nursery: Nursery, at: str, left: str
) -> None:
    site.script(POST)
    command = (sys.executable, "manage.py", "durableq", "work", "--procs", "1")
    fleet = nursery.run(*command, cwd=site.folder, stdin=None, **held(site, at))
    file = site.folder / "held-pid"
    fleet.wait_until(lambda: file.exists() and file.read_text().endswith("\n"), "its commit")
    assert site.state(7) == left
    kill_held(site)
    fleet.wait_until(lambda: site.state(7) == "paid", "the payment")
    fleet.wait_until(lambda: site.count("durableq_message") == 0, "the completion")
    fleet.kill()
    assert plain.counters(site.place, "orders")["completed"] == 1
    plain.check_sound(site.place)


@pytest.mark.parametrize("more", [(), ("--parallel", "2")], ids=["one process", "parallel"])
def test_the_tests_of_the_page_pass(site: Site, more: tuple[str, ...]) -> None:
    if more and not isinstance(site.place, Path):
        pytest.skip("Django's own copies of PostgreSQL's databases")
    said = site.manage("test", *more, DJANGO_SETTINGS_MODULE="tested")
    assert re.search(r"Ran 3 tests.*OK", said, re.DOTALL), said
    left = {path.name for path in site.folder.glob("*.db*")}
    assert not [name for name in left if name.startswith("test_")]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_statement_waits_for_another_writer(site: Site) -> None:
    facts = site.script("""
import threading
from durableq.engines.sqlite import write_lock
from durableq.engines.sqlite.driver import driver

Order.objects.all().delete()
end = threading.Event()
# In a process of one thread, no wait could end.
threading.Thread(target=end.wait, daemon=True).start()
other = driver.connect(connection.settings_dict["NAME"], isolation_level=None)
pause, pauses = write_lock._Wait.pause, []

def released(wait):
    if other.in_transaction:
        other.execute("ROLLBACK")
        pauses.append(wait)
    pause(wait)

write_lock._Wait.pause = released
other.execute("BEGIN IMMEDIATE")
Order.objects.create(number=1)
other.execute("BEGIN IMMEDIATE")
with transaction.atomic():
    Order.objects.create(number=2)
end.set()
say(numbers=numbers(), pauses=len(pauses))
""")
    assert facts == {"numbers": [1, 2], "pauses": 2}


def test_a_wrong_setting_is_named(site: Site) -> None:
    for setting, says in (
        ("DURABLEQ = {'QUEUES': 1}", "DATABASE, MODULES and OPTIONS"),
        ("DURABLEQ = {'DATABASE': 'other'}", "names the DATABASE 'other'"),
        ("DURABLEQ = {'MODULES': 'tasks'}", "is a list or tuple"),
        (
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'x.db'}}",
            "For SQLite, durableq needs",
        ),
    ):
        (site.folder / "wrong.py").write_text(f"from settings import *\n{setting}\n")
        with pytest.raises(AssertionError, match=re.escape(says)):
            site.manage("check", DJANGO_SETTINGS_MODULE="wrong")

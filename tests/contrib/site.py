"""A Django project of the page about web frameworks, in a folder, on a file or on PostgreSQL."""

from __future__ import annotations

import atexit
import functools
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests import descriptors
from tests.contrib.pages import FILES, write
from tests.engine import plain
from tests.process.child import PATH
from tests.support import scaled
from tests.warm import WarmProcess

#: What a project imports that does not look at its settings.
IMPORTS = (
    "django.core.management.commands.migrate",
    "django.core.management.commands.test",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "durableq.cli.commands",
    "durableq.contrib.django",
    "sqlalchemy.orm",
)

MANAGE = """
import os, sys
from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project")
execute_from_command_line(sys.argv)
"""
#: Refunds are given by a second module of handlers, the first time in vain.
HANDLERS = """
from django.db import transaction
from durableq.contrib.django import dq
from shop.models import Order

refunds = dq.queue("refunds", backoff_base=0)

@dq.handler("refunds")
def refund(message):
    with message.transaction() as tx:
        Order.objects.create(number=message.body)
        with transaction.atomic():
            tx.send("orders", {"number": message.body})
        if message.receive_count == 1:
            raise ValueError("the bank says no")
"""
BEGIN = """
import json, os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project")
import django
django.setup()
from django.db import connection, transaction
from django.test import Client
from durableq.contrib.django import dq
from shop.models import Order
from shop.tasks import orders

def numbers():
    return sorted(Order.objects.values_list("number", flat=True))

def sent():
    return [one.body for one in orders.receive(100)]

def say(**facts):
    print(json.dumps(facts))
"""


@functools.cache
def _warm() -> WarmProcess:
    """A process that has imported Django and durableq: each start would take half a second of CPU.

    Warnings are errors in it, and in its forks, but not in the processes that these start.
    """
    process = WarmProcess(*IMPORTS, PYTHONPATH=os.pathsep.join(PATH), PYTHONWARNINGS="error")
    atexit.register(process.close)
    descriptors.KEPT.update(process.descriptors)
    return process


class Site:
    """The project.

    Args:
        folder: of its files.
        place: a URL of PostgreSQL, with the schema to use, or the path of a file.
    """

    def __init__(self, folder: Path, place: plain.Place) -> None:
        self.folder, self.place = folder, place
        names = [name for name in FILES if name.startswith("shop/")]
        write(folder, "settings.py", *names)
        (folder / "shop" / "__init__.py").touch()
        (folder / "shop" / "handlers.py").write_text(HANDLERS)
        (folder / "manage.py").write_text(MANAGE)
        (folder / "project.py").write_text(f"from settings import *\n{self._database()}")
        (folder / "tested.py").write_text(f"from project import *\n{self._test_database()}")
        (folder / "held.py").write_text("from project import *\nimport tests.contrib.holding\n")
        self.manage("migrate", "--run-syncdb", "-v0")

    def _database(self) -> str:
        if isinstance(self.place, Path):
            return f"DATABASES['default']['NAME'] = {str(self.place)!r}\n"
        url = urlsplit(self.place)
        query = parse_qs(url.query)
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.strip("/"),
            "USER": url.username,
            "HOST": query["host"][0],
            "OPTIONS": {"options": query["options"][0]},
        }
        options = {"schema": query["schema"][0]}
        return f"DATABASES = {{'default': {database!r}}}\nDURABLEQ = {{'OPTIONS': {options!r}}}\n"

    def _test_database(self) -> str:
        """Return the settings of its tests: a schema belongs to one database of a server."""
        if isinstance(self.place, Path):
            return ""
        name = f"shop_{self.place.rpartition('schema=')[2]}"
        more = f"OPTIONS={{}}, TEST={{'NAME': {name!r}}}"
        return f"DATABASES['default'].update({more})\nDURABLEQ = {{}}\n"

    def manage(self, *arguments: str, **variables: str) -> str:
        """Run manage.py, and return its output."""
        return self._run("manage", *arguments, **variables)

    def script(self, text: str) -> dict[str, Any]:
        """Run a script in the project, and return the facts that it says."""
        (self.folder / "script.py").write_text(BEGIN + text)
        facts: dict[str, Any] = json.loads(self._run("script"))
        return facts

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        number: int = plain.one(self.place, f"SELECT count(*) FROM {table}")
        return number

    def state(self, number: int) -> str:
        """Return the state of an order."""
        state: str = plain.one(
            self.place, f"SELECT state FROM shop_order WHERE number = {int(number)}"
        )
        return state

    def _run(self, script: str, *arguments: str, **variables: str) -> str:
        given = {"PYTHONWARNINGS": ""} | variables
        ran = _warm().run(script, *arguments, seconds=scaled(120), folder=self.folder, **given)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr if "test" in arguments else ran.stdout

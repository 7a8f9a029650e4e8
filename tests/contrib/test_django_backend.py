"""Django's backend on durableq's SQLite library: values, queries, changes of tables, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contrib.site import Site
from tests.engine import plain

MODELS = """
import datetime, decimal, uuid
from django.db import models
from django.db.models import functions

class Every(models.Model):
    flag = models.BooleanField()
    day = models.DateField()
    at = models.DateTimeField()
    clock = models.TimeField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    lasts = models.DurationField()
    id_of = models.UUIDField(unique=True)
    data = models.JSONField()
    raw = models.BinaryField()
    text = models.CharField(max_length=20)

    class Meta:
        app_label = "shop"

UTC = datetime.UTC
VALUES = dict(
    flag=True, day=datetime.date(2026, 2, 3), at=datetime.datetime(2026, 2, 3, 4, 5, 6, 7, UTC),
    clock=datetime.time(1, 2, 3), price=decimal.Decimal("12.30"),
    lasts=datetime.timedelta(minutes=5), id_of=uuid.UUID(int=7), data={"a": [1, None]},
    raw=b"\\0\\xff", text="5% of \\u00e4",
)
with connection.schema_editor() as editor:
    editor.create_model(Every)
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, tmp_path / "shop.db")


def test_values_and_queries_are_those_of_djangos_backend(site: Site) -> None:
    facts = site.script(
        MODELS
        + """
Every.objects.create(**VALUES)
[found] = Every.objects.all()
same = {name: getattr(found, name) == value for name, value in VALUES.items()}
made = Every.objects.bulk_create(
    [Every(**VALUES | {"id_of": uuid.UUID(int=n), "text": f"t{n}"}) for n in (1, 2)]
)
with connection.cursor() as cursor:
    cursor.execute("SELECT day, at, flag FROM shop_every WHERE text = %(t)s", {"t": "t1"})
    raw = [type(value).__name__ for value in cursor.fetchone()]
    cursor.executemany("UPDATE shop_every SET text = %s WHERE text = %s", [["t3", "t2"]])
by = Every.objects.filter
say(
    same=all(same.values()),
    raw=raw,
    keys=[one.pk for one in made],
    json=by(data__a__0=1).count(),
    regex=by(text__iregex="^T[13]$").count(),
    month=by(at__month=2, day__week_day=3).count(),
    total=float(Every.objects.aggregate(total=models.Sum("price"))["total"]),
    upper=by(pk=1).values_list(functions.Upper("text"), flat=True)[0],
)
"""
    )
    assert facts == {
        "same": True,
        "raw": ["date", "datetime", "bool"],
        "keys": [2, 3],
        "json": 3,
        "regex": 2,
        "month": 3,
        "total": 36.9,
        "upper": "5% OF \u00e4",
    }


def test_tables_are_changed_and_constraints_kept(site: Site) -> None:
    facts = site.script(
        MODELS
        + """
from django.db import IntegrityError

Every.objects.create(**VALUES)
old, new = Every._meta.get_field("text"), models.CharField(max_length=5, null=True)
new.set_attributes_from_name("text")
new.model = Every
with connection.schema_editor() as editor:
    editor.alter_field(Every, old, new)  # SQLite copies the table
refused = ""
try:
    Every.objects.create(**VALUES)
except IntegrityError as error:
    refused = str(error)
say(refused=refused, left=Every.objects.values_list("text", flat=True)[0])
"""
    )
    assert facts == {
        "refused": "UNIQUE constraint failed: shop_every.id_of",
        "left": "5% of \u00e4",
    }
    plain.check_sound(site.place)


WRONG = [
    ("'NAME': ':memory:'", "names no file"),
    ("'NAME': ''", "names no file"),
    ("'OPTIONS': {'factory': 1}", "has 'factory'. This backend has init_command, synchronous"),
    ("'OPTIONS': {'transaction_mode': 'EXCLUSIVE'}", "is IMMEDIATE or left out"),
    ("'OPTIONS': {'synchronous': 'off'}", "is 'full' or 'normal', got 'off'"),
    ("'OPTIONS': {'synchronous': None}", "is 'full' or 'normal', got None"),
]


@pytest.mark.parametrize(("setting", "says"), WRONG)
def test_a_wrong_database_is_named(site: Site, setting: str, says: str) -> None:
    more = f"DATABASES['default'].update({{{setting}}})"
    (site.folder / "wrong.py").write_text(f"from project import *\n{more}\n")
    with pytest.raises(AssertionError, match=says):
        site.manage("showmigrations", DJANGO_SETTINGS_MODULE="wrong")

"""Addresses to be shown have no passwords, and those of PostgreSQL are read as libpq reads them."""

from __future__ import annotations

import os

import pytest

from durableq import DurableQ, InvalidInput
from durableq.engines.postgres.location import Location
from durableq.model.text import address
from durableq.worker.options import WorkerOptions


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me:secret@[::1]:5432/shop", "postgresql://me:***@[::1]:5432/shop"),
        ("postgresql://me:se:cret@host/shop?schema=q", "postgresql://me:***@host/shop?schema=q"),
        ("postgresql://me:se@cret@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me:se/cret@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me:se?x=cret@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me:se\ncret@host/shop", "postgresql://me:***@host/shop"),
        ("postgres://host/shop?password=secret&x=1", "postgres://host/shop?password=***&x=1"),
        ("postgresql://h/d?p%61ssword=secret", "postgresql://h/d?p%61ssword=***"),
        ("postgresql://h/d?sslpassword=secret", "postgresql://h/d?sslpassword=***"),
        ("theirs://me:secret@host", "theirs://me:***@host"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert address(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "shop.db",
        "a:b@c.db",
        "sqlite:///a:b@c.db",
        "memory://",
        "postgresql://me@host:5432/shop?schema=q",
        "postgresql://one:5432,two:5433/shop",
    ],
)
def test_an_address_without_one_is_shown_as_it_is(url: str) -> None:
    assert address(url) == url


@pytest.mark.parametrize(
    ("url", "conninfo", "schema"),
    [
        ("postgres://me@host/shop", "postgresql://me@host/shop", None),
        ("postgresql://me:a%40b@host/shop?schema=q", "postgresql://me:a%40b@host/shop", "q"),
        (
            "postgresql:///shop?host=%2Ftmp&schema=a%20b&sslmode=disable",
            "postgresql:///shop?host=%2Ftmp&sslmode=disable",
            "a b",
        ),
        ("postgresql://one:5432,two:5433/shop", "postgresql://one:5432,two:5433/shop", None),
        ("postgresql://me:a?b@host/shop", "postgresql://me:a?b@host/shop", None),
        ("postgresql://host/d?options=-c%20x%3D1", "postgresql://host/d?options=-c%20x%3D1", None),
    ],
)
def test_a_location_has_the_url_for_libpq_and_the_schema(
    url: str, conninfo: str, schema: str | None
) -> None:
    assert Location.parse(url) == Location(conninfo, schema)


def test_a_location_has_the_limits_of_its_url() -> None:
    limited = "postgresql://host/shop?pool_size=4&sslmode=disable&busy_timeout=1.5&schema=q"
    found = Location("postgresql://host/shop?sslmode=disable", "q", 1_500, 4)
    assert Location.parse(limited) == found
    assert Location.parse("postgresql://host/shop?busy_timeout=0").busy_timeout_ms == 1
    assert Location.parse("postgresql://host/shop") == Location("postgresql://host/shop")


_SHOP = "postgresql://me:ret@host/shop?"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (_SHOP + "pool_size=0", "pool_size is a whole number from 1 to 1000, got '?0"),
        (_SHOP + "pool_size=many", "pool_size is a whole number"),
        (_SHOP + "pool_size=1001", "pool_size is a whole number"),
        (_SHOP + "pool_size=" + "9" * 5_000, "pool_size is a whole number"),
        (_SHOP + "pool_size", "pool_size is a whole number"),
        (_SHOP + "pool_size=1&pool_size=2", "pool_size is given twice in .*Leave one out"),
        (_SHOP + "schema=a&schema=a", "schema is given twice"),
        (_SHOP + "busy_timeout=soon", "busy_timeout is in seconds, got 'soon'"),
        (_SHOP + "busy_timeout=nan", "busy_timeout is a number of seconds of at least 0"),
        (_SHOP + "busy_timeout=-1", "busy_timeout is a number of seconds of at least 0"),
        (_SHOP + "busy_timeout=86401", "busy_timeout is at most 86400 seconds"),
        (_SHOP + "synchronous_commit=off", "always on the disk of the server"),
        (_SHOP + "synchronous_commit=on", "always on the disk of the server"),
        ("postgresql://me:sec@ret@host/shop", "Write %40"),
        ("postgresql://me:sec/ret@host/shop", "Write %40"),
        ("postgresql://host/shop?schema=", "no name of a schema"),
        ("postgresql://host/shop?schema=" + "x" * 64, "no name of a schema"),
    ],
)
def test_an_unclear_url_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        DurableQ(url)
    assert "ret" not in str(refused.value)


def test_an_application_shows_no_password() -> None:
    dq = DurableQ("postgresql://me:secret@host/shop")
    assert dq.address == "postgresql://me:***@host/shop"
    assert "secret" not in repr(dq.queue("orders"))


def test_the_arguments_of_a_worker_have_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:secret@host/shop"
    options = WorkerOptions("shop:dq", url, "worker")
    assert "secret" not in options.to_json()
    assert options.environment is not None
    for name in options.environment.keys() - os.environ.keys():
        monkeypatch.setenv(name, options.environment[name])
    assert WorkerOptions.from_json(options.to_json()) == options
    assert "secret" not in WorkerOptions.from_json(options.to_json()).url, "is not inherited"
    assert WorkerOptions("shop:dq", "shop.db", "worker").environment is None

"""The Django application: it finds handlers, and makes the tables in `migrate`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks, signals
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules

from durableq.contrib.django import dq
from durableq.contrib.django.configuration import configuration
from durableq.model.errors import DurableQError


class DurableQConfig(AppConfig):
    """`durableq.contrib.django` in INSTALLED_APPS."""

    name = "durableq.contrib.django"
    label = "durableq"
    verbose_name = "durableq"

    def ready(self) -> None:
        """Import the modules with handlers, of each application."""
        checks.register(_check)
        post_migrate.connect(_make_tables, sender=self)
        signals.request_started.connect(_open)
        autodiscover_modules(*configuration().modules)


def _check(**__: Any) -> list[checks.CheckMessage]:
    """Report a database that cannot be used, before the first request."""
    try:
        _ = dq.url
    except (DurableQError, ImproperlyConfigured) as error:
        return [checks.Error(str(error), id="durableq.E001")]
    return []


def _make_tables(using: str, **_: Any) -> None:
    """Make or upgrade durableq's tables, and the queues that are declared, beside Django's."""
    if using != configuration().alias:
        return
    was_open = dq.opened is not None
    dq.init()
    if not was_open:
        dq.close()


def _open(**_: Any) -> None:
    """Open the store before the first request: inside a transaction no queue can be declared."""
    if dq.opened is None:
        dq.open_if_there()

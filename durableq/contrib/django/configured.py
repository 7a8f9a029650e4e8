"""The application of a Django project, for workers: Django is set up when this is imported.

`durableq work --app durableq.contrib.django.configured:dq`, with DJANGO_SETTINGS_MODULE; `manage.py
durableq work` does so.
"""

import django
from django.apps import apps

from durableq.contrib.django import dq

__all__ = ["dq"]

if not apps.ready:
    django.setup()

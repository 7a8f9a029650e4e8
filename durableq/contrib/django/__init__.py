"""durableq in a Django project: queues in the database of its models.

Add `durableq.contrib.django` to INSTALLED_APPS. `dq` is the application of the project; a send
inside `transaction.atomic()` joins that transaction, and `message.transaction()` in a handler is a
transaction of Django. On SQLite the database's ENGINE is `durableq.contrib.django.sqlite3`.
"""

from durableq.contrib.django.project import Project

__all__ = ["Project", "dq"]

#: The application of this project. Nothing is read or opened before its first use.
dq = Project()

"""`manage.py durableq ...`: the commands of durableq, on the application of the project."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from django.core.management.base import BaseCommand

from durableq.cli import main
from durableq.cli.options import APP_VARIABLE

_APPLICATION: Final = "durableq.contrib.django.configured:dq"


class Command(BaseCommand):
    """Runs a command of durableq, with the project's application, on the project's database."""

    help = "Runs a command of durableq: work, status, dlq list, … See `manage.py durableq --help`."
    requires_system_checks: Sequence[str] = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Hand all arguments on, and exit with the command's code."""
        sys.exit(_run(argv[2:]))

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take all arguments of `call_command` as they are."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *_: Any, arguments: Sequence[str], **__: Any) -> None:
        """Run it for `call_command`.

        Raises:
            SystemExit: it failed.
        """
        code = _run(arguments)
        if code:
            raise SystemExit(code)


def _run(arguments: Sequence[str]) -> int:
    """Run a command; its worker processes import the project as this process does."""
    os.environ[APP_VARIABLE] = _APPLICATION
    path = [sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    return main(arguments)

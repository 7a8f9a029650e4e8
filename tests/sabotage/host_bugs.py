"""Bugs to plant among several hosts, and the tool to plant one in a statement."""

from __future__ import annotations

import re
from operator import itemgetter
from typing import Any

from durableq.engines.sql import hosts
from durableq.engines.sql.dialect import RowStatement
from durableq.engines.sqlite import statements
from durableq.runtime import clock

#: A named parameter in a statement's text.
PARAMETER = re.compile(r":(\w+)")


def rewrite(name: str, old: str, new: str) -> None:
    """Change the text of a statement, in both of its forms.

    Args:
        name: of the statement.
        old: the text to replace; one parameter in it, `:name`, is found by its number too.
        new: the text in its place, with the same parameter.
    """
    module: Any = statements
    text = " ".join(getattr(module, name).split())
    wanted = PARAMETER.sub(r"(?P<given>:\1|\\?\\d+)", re.escape(old))
    found = re.search(wanted, text)
    if found is None:
        raise AssertionError(f"{old!r} is not in {text!r}: plant the bug anew")
    given = found.groupdict().get("given", "")
    changed = text.replace(found[0], PARAMETER.sub(lambda _: given, new) if given else new)
    setattr(module, name, changed)
    if hasattr(module, f"{name}_ONE"):
        rewrite(f"{name}_ONE", old, new)
    if hasattr(module, f"{name}_ROWS"):
        pick = itemgetter(*PARAMETER.findall(changed))
        setattr(module, f"{name}_ROWS", RowStatement(PARAMETER.sub("?", changed), pick))


def know_one_host_only() -> None:
    """Each boot is a restart of the one host, as release 0.1 had it."""
    module: Any = hosts
    known_boots = module.known_boots

    def of_one_host(tx: Any) -> dict[str, str]:
        boots = list(known_boots(tx).values())
        return {"": boots[-1]} if boots else {}

    module.known_boots = of_one_host


def take_boot_clocks_for_one() -> None:
    """Lease time is the boot clock of whichever host reads it."""
    module: Any = clock
    advance = module.advance
    module.advance = lambda anchor, now: advance(anchor, now)._replace(lease_offset_ms=0)


def forget_the_hosts_of_workers() -> None:
    rewrite("WORKERS", "durableq_worker.host_id", "'' AS host_id")

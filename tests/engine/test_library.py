"""Which SQLite libraries may be used: none whose WAL several processes can corrupt."""

from __future__ import annotations

import pytest

from durableq import AffectedSQLite
from durableq.engines.sql.sqlite import check_library

VERSIONS = {
    "3.7.0": False,
    "3.40.1": False,  # the standard library's, on Debian 12
    "3.44.5": False,
    "3.44.6": True,
    "3.44.9": True,
    "3.45.0": False,
    "3.49.99": False,
    "3.50.6": False,
    "3.50.7": True,
    "3.50.8": True,
    "3.51.0": False,
    "3.51.1": False,  # pysqlite3-binary's
    "3.51.2": False,
    "3.51.3": True,
    "3.53.0": True,
    "4.0.0": True,
}


@pytest.mark.parametrize(("version", "usable"), VERSIONS.items(), ids=VERSIONS)
def test_a_library_is_judged_by_its_version(version: str, usable: bool) -> None:
    parts = tuple(map(int, version.split(".")))
    if usable:
        check_library(parts)
    else:
        with pytest.raises(AffectedSQLite, match=rf"SQLite {version} can corrupt .*pip install"):
            check_library(parts)


def test_the_library_in_use_is_one_of_the_usable() -> None:
    check_library()

"""The four kinds of transfers: from a file or a schema to a file or a schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import new_schema
from tests.process.child import Nursery
from tests.support import new_file
from tests.transfer.places import KINDS, Places


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A new file."""
    return new_file(tmp_path / "shop.db")


@pytest.fixture(params=KINDS)
def places(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> Iterator[Places]:
    """A source that is there, and a target that is not, of each kind."""
    source, target = request.param.split(" to ")
    with new_schema(postgres_server) as first, new_schema(postgres_server) as second:
        urls = {"file": str(tmp_path / "shop.db"), "schema": first}
        targets = {"file": str(tmp_path / "new.db"), "schema": second}
        yield Places(urls[source], targets[target])


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """The processes of the test."""
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()

"""Functions of the tests of copies: the files beside a database, and the refusal of a call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

OLDER = Path(__file__).parents[1] / "migrations" / "released" / "0001.db"


def beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def refusal(kind: type[Exception], call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    assert type(caught.value) is kind
    return str(caught.value)

"""Fixtures of the command's tests: an empty directory, a shop, and a call of the command."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq.cli import main
from durableq.demo import app as demo
from tests.cli.console import Result, Run, Shop


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    # The example application is one for all tests of a process, and keeps the --db of a command.
    monkeypatch.setattr(demo.dq, "_url", demo.dq._url)

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new shop's closed database: a copy is quicker than creating another."""
    shop = Shop(tmp_path_factory.mktemp("fresh") / "durableq.db")
    _ = shop.store
    shop.dq.close()
    return shop.path


@pytest.fixture
def shop(tmp_path: Path, fresh: Path) -> Iterator[Shop]:
    """A shop in the default database."""
    shop = Shop(Path(shutil.copy2(fresh, tmp_path)))
    _ = shop.store
    yield shop
    shop.dq.close()

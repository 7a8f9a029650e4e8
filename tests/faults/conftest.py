"""The shim, built once with the machine's C compiler."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.child import PATH
from tests.warm import WarmProcess

Sweep = Callable[..., list[dict[str, Any]]]

IMPORTS = (
    "alembic.command",
    "durableq.admin.operations",
    "durableq.engines.sqlite.store",
)


def compiled(name: str, folder: Path) -> Path:
    """Compile one of the libraries to preload."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not Path("/proc/self/fd").is_dir():
        pytest.skip("faults at file operations need Linux and a C compiler")
    library = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    options = ["-O1", "-fPIC", "-shared", "-o", str(library), str(source), "-ldl"]
    subprocess.run([compiler, *options], check=True)
    return library


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile tests/faults/shim.c."""
    return compiled("shim", tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile tests/faults/recorder.c."""
    return compiled("recorder", tmp_path_factory.mktemp("power"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder, in memory if the machine has such a file system: there fsync costs nothing."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="durableq-faults-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def with_shim(shim: Path) -> Iterator[WarmProcess]:
    """A warm process with shim.c preloaded."""
    yield from warm(shim)


@pytest.fixture(scope="session")
def with_recorder(recorder: Path) -> Iterator[WarmProcess]:
    """A warm process with recorder.c preloaded."""
    yield from warm(recorder)


@pytest.fixture(scope="session", params=["pysqlite3", "stdlib"])
def with_library(shim: Path, request: pytest.FixtureRequest) -> Iterator[WarmProcess]:
    """A warm process with shim.c preloaded and the SQLite library of the parameter."""
    if request.param == "pysqlite3":
        pytest.importorskip("pysqlite3")
    yield from warm(shim, DURABLEQ_SQLITE=request.param)


def warm(library: Path, **environment: str) -> Iterator[WarmProcess]:
    path = os.pathsep.join(PATH)
    process = WarmProcess(*IMPORTS, PYTHONPATH=path, LD_PRELOAD=str(library), **environment)
    yield process
    process.close()


@pytest.fixture
def sweep(with_shim: WarmProcess, folder: Path) -> Sweep:
    """Run a sweep of tests.faults.sweep, and return its findings at each fault."""
    return runner(with_shim, folder, "tests.faults.sweep")


@pytest.fixture
def write(with_shim: WarmProcess, folder: Path) -> Sweep:
    """Run a sweep of tests.faults.writing, and return its findings at each fault."""
    return runner(with_shim, folder, "tests.faults.writing")


@pytest.fixture
def write_with_library(with_library: WarmProcess, folder: Path) -> Sweep:
    """As `write`, with each of the SQLite libraries."""
    return runner(with_library, folder, "tests.faults.writing")


@pytest.fixture
def replay(with_recorder: WarmProcess, folder: Path) -> Sweep:
    """Replay power cuts with tests.faults.powerloss, and return its findings in each image."""
    return runner(with_recorder, folder, "tests.faults.powerloss")


def runner(process: WarmProcess, folder: Path, module: str) -> Sweep:
    def run(call: str, *kind: str) -> list[dict[str, Any]]:
        ended = process.run(module, call, str(folder), *kind, seconds=280)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return run

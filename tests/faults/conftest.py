"""The shim, built once with the machine's C compiler."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.child import PATH, ROOT

Sweep = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile tests/faults/shim.c."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not Path("/proc/self/fd").is_dir():
        pytest.skip("faults at file operations need Linux and a C compiler")
    library = tmp_path_factory.mktemp("faults") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    options = ["-O1", "-fPIC", "-shared", "-o", str(library), str(source), "-ldl"]
    subprocess.run([compiler, *options], check=True)
    return library


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder, in memory if the machine has such a file system: there fsync costs nothing."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="durableq-faults-") as name:
        yield Path(name)


@pytest.fixture
def sweep(shim: Path, folder: Path) -> Sweep:
    """Run a sweep of tests.faults.sweep, and give what it found at each fault."""
    return runner(shim, folder, "tests.faults.sweep")


@pytest.fixture
def write(shim: Path, folder: Path) -> Sweep:
    """Run a sweep of tests.faults.writing, and give what it found at each fault."""
    return runner(shim, folder, "tests.faults.writing")


def runner(shim: Path, folder: Path, module: str) -> Sweep:
    def run(call: str, *kind: str) -> list[dict[str, Any]]:
        ended = subprocess.run(
            [sys.executable, "-m", module, call, str(folder), *kind],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(PATH), "LD_PRELOAD": str(shim)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return run

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


@pytest.fixture
def sweep(shim: Path, folder: Path) -> Sweep:
    """Run a sweep of tests.faults.sweep, and give what it found at each fault."""
    return runner(shim, folder, "tests.faults.sweep")


@pytest.fixture
def write(shim: Path, folder: Path) -> Sweep:
    """Run a sweep of tests.faults.writing, and give what it found at each fault."""
    return runner(shim, folder, "tests.faults.writing")


@pytest.fixture
def replay(recorder: Path, folder: Path) -> Sweep:
    """Replay power cuts with tests.faults.powerloss, and give what it found in each image."""
    return runner(recorder, folder, "tests.faults.powerloss")


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

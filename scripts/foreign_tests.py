"""Run tests of other projects, and other projects, against `durableq serve`: make foreign.

python -m scripts.foreign_tests                    every suite
python -m scripts.foreign_tests moto kombu         two of them
python -m scripts.foreign_tests --endpoint URL     against a server that is already running

The programs are installed into build/foreign/venv, at the versions in
tests/foreign/requirements.txt. The tests of moto and kombu come from the source distributions of
these versions. Packages of JavaScript are installed where Node.js is; Terraform runs where it is
installed, with its provider. Each suite has a server and a database of its own; all run at the
same time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
HERE: Final = ROOT / "tests" / "foreign"
BUILD: Final = ROOT / "build" / "foreign"
REQUIREMENTS: Final = HERE / "requirements.txt"
PYTHON: Final = BUILD / "venv" / "bin" / "python"
START_SECONDS: Final = 60
#: The oldest Node.js of the packages.
NODE: Final = 20


class Suite(NamedTuple):
    """Tests of a project.

    Args:
        sdist: the project whose source distribution has them; empty: they are in tests/foreign.
        folders: the parts of the distribution that they need.
        tests: the arguments of pytest.
    """

    sdist: str
    folders: tuple[str, ...]
    tests: tuple[str, ...]


#: Of our own tests none is repeated: a failure of theirs is never chance.
_WITHOUT_RERUNS: Final = ("-p", "no:rerunfailures")
_TERRAFORM: Final = HERE / "smoke_terraform.py"
SUITES: Final = {
    "moto": Suite("moto", ("tests",), ("tests/test_sqs", "--reruns", "2")),
    "kombu": Suite("kombu", ("t",), ("t/integration/test_sqs.py",)),
    "smoke": Suite("", (), (*_WITHOUT_RERUNS, str(HERE), "--ignore", str(_TERRAFORM))),
    # Its provider waits longer than all the others take.
    "terraform": Suite("", (), (*_WITHOUT_RERUNS, str(_TERRAFORM))),
}


class Failed(Exception):
    """The tests cannot be run, for the reason in the text."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run suites; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=" ".join(SUITES))
    parser.add_argument("--endpoint", help="URL of a running server; otherwise one is started")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.suites) - set(SUITES)):
        parser.error(f"there is no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    names = chosen.suites or list(SUITES)
    try:
        install()
        with ThreadPoolExecutor(len(names)) as pool:
            codes = list(pool.map(lambda name: run(name, chosen.endpoint), names))
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return max(codes)


def install() -> None:
    """Create the environment, unless there is one with these versions."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp = BUILD / "venv" / "requirements.sha256"
    if stamp.exists() and stamp.read_text() == wanted and PYTHON.exists():
        return
    print("Installing the programs of tests/foreign/requirements.txt ...", flush=True)
    venv.create(BUILD / "venv", clear=True, with_pip=True)
    _pip("install", "-qq", "--no-deps", "-r", str(REQUIREMENTS))
    stamp.write_text(wanted)


def install_javascript() -> str:
    """Install the packages of JavaScript; return their folder, or nothing without Node.js."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return ""
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(shown.removeprefix("v").partition(".")[0]) < NODE:
        return ""
    folder = BUILD / "javascript"
    folder.mkdir(parents=True, exist_ok=True)
    wanted, installed = HERE / "javascript" / "package.json", folder / "package.json"
    if not installed.exists() or installed.read_bytes() != wanted.read_bytes():
        shutil.copy(wanted, folder / "wanted.json")
        (folder / "wanted.json").replace(installed)
        options = ("--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
        if subprocess.run([npm, "install", *options], cwd=folder, check=False).returncode:
            installed.unlink()
            raise Failed("npm install failed.")
    return str(folder)


def _pip(*arguments: str) -> None:
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [str(PYTHON), "-m", "pip", *arguments]
    if code := subprocess.run(command, env=os.environ | quiet, check=False).returncode:
        raise Failed(f"pip {arguments[0]} ended with exit code {code}.")


def run(name: str, endpoint: str | None) -> int:
    """Run a suite and print its output; return the exit code of pytest."""
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if endpoint:
        return _pytest(name, folder, endpoint)
    with server(folder) as url:
        return _pytest(name, folder, url)


def _pytest(name: str, folder: Path, endpoint: str) -> int:
    suite = SUITES[name]
    if suite.sdist:
        unpack(suite, folder, endpoint)
    variables = {
        "FOREIGN_SUITE": name,
        "FOREIGN_ENDPOINT": endpoint,
        "SQS_HOST": "localhost",
        "SQS_PORT": endpoint.rpartition(":")[2],
        "PYTHONPATH": f"{HERE}{os.pathsep}{folder if suite.sdist else ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FOREIGN_JAVASCRIPT": install_javascript() if name == "smoke" else "",
    }
    plugins = ("-p", "foreign_plugin", "-p", "no:cacheprovider")
    command = [str(PYTHON), "-m", "pytest", "-q", *plugins, "-c", str(HERE / "pytest.ini")]
    ended = subprocess.run(
        [
            *command,
            "--rootdir",
            str(folder),
            "--confcutdir",
            str(folder if suite.sdist else HERE),
            *suite.tests,
        ],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"== {name}\n{ended.stdout}", flush=True)
    return ended.returncode


def unpack(suite: Suite, folder: Path, endpoint: str) -> None:
    """Unpack the tests of a source distribution; in their texts, the endpoint is this one."""
    pinned = re.search(rf"^{suite.sdist}==\S+$", REQUIREMENTS.read_text(), re.MULTILINE)
    if pinned is None:
        raise Failed(f"{REQUIREMENTS.name} has no version of {suite.sdist}.")
    archive = BUILD / "sdists" / f"{pinned[0].replace('==', '-')}.tar.gz"
    if not archive.exists():
        _pip("download", "-qq", "--no-deps", "--no-binary", suite.sdist, "--dest",
             str(archive.parent), pinned[0])  # fmt: skip
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            if member.isfile() and name.startswith(tuple(f"{top}/" for top in suite.folders)):
                member.name = name
                tar.extract(member, folder, filter="data")
    for path in folder.glob("tests/test_sqs/*.py"):
        path.write_text(path.read_text().replace("http://localhost:5000", endpoint))


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run `durableq serve` on a new database; yield its URL."""
    kept = socket.socket()  # it keeps the port from others until the server listens
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    url = f"http://localhost:{port}"
    command = [sys.executable, "-m", "durableq", "serve", "--db", str(folder / "queue.db")]
    with kept, (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
        try:
            _wait_for(url, process, folder / "server.log")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = monotonic() + START_SECONDS
    while monotonic() < end and process.poll() is None:
        with (
            suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"{url}/health"),  # noqa: S310 - http,
        ):
            return
        sleep(0.05)
    raise Failed(f"durableq serve does not answer at {url}:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())

"""The image, as far as it can be tested without Docker: its steps, its walls, its health check.

The steps of the first stage are run in a folder, with the files that the builder would get. The
command then runs as the image starts it: as PID 1, on a read-only system, without capabilities.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from durableq import DurableQ
from tests.cli.console import environment
from tests.deployment.walls import walled
from tests.house.tree import tracked
from tests.process.child import Child, Nursery
from tests.process.facts import completed
from tests.support import new_file, scaled, wait_for

ROOT = Path(__file__).parents[2]
HEALTHY = ROOT / "packaging/docker/healthy.py"
COMMANDS = ["work", "recover", "dashboard", "serve", "produce"]
LATE = """#!/bin/sh
sleep 0.2 &
touch began
while [ ! -e gate ]; do sleep 0.05; done
"""


class Step(NamedTuple):
    """An instruction of the Dockerfile, with its stage: 0 builds, 1 is the image."""

    stage: int
    name: str
    words: str


def steps() -> list[Step]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found, stage = [], -1
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, words = line.partition(" ")
            stage += name == "FROM"
            found.append(Step(stage, name, words))
    return found


def of(name: str, stage: int) -> list[str]:
    return [step.words for step in steps() if (step.stage, step.name) == (stage, name)]


def context() -> set[str]:
    """The files that the builder gets, by .dockerignore: the last line that matches counts."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    sent = set()
    for path in (path.relative_to(ROOT) for path in tracked(ROOT)):
        names = [str(path), *map(str, path.parents)]
        is_sent = True
        for pattern in patterns:
            if any(fnmatch.fnmatch(name, pattern.lstrip("!")) for name in names):
                is_sent = pattern.startswith("!")
        sent |= {str(path)} if is_sent else set()
    return sent


def copied() -> list[str]:
    """The sources of all files that are copied from the tree."""
    lines = [words for stage in (0, 1) for words in of("COPY", stage) if "--from" not in words]
    return [source for words in lines for source in words.split()[:-1]]


def test_the_builder_gets_the_copied_files_and_no_others() -> None:
    assert context() == {
        path
        for path in (path.relative_to(ROOT).as_posix() for path in tracked(ROOT))
        if any(path == source or path.startswith(f"{source}/") for source in copied())
    }


def test_the_steps_of_the_build_install_the_command(tmp_path: Path) -> None:
    """Without the dependencies, which would be downloaded: those of the tests are used."""
    source, target = tmp_path / "source", tmp_path / "durableq"
    libraries = sysconfig.get_path("purelib")
    env = environment(PYTHONPATH=libraries, PIP_NO_DEPS="1", PIP_NO_BUILD_ISOLATION="0")
    for words in of("COPY", 0):
        *names, to = words.split()
        for name in names:
            place = source / to / ("" if name == to else name)
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, place)
    for pair in shlex.split(" ".join(of("ENV", 0))):
        name, _, value = pair.partition("=")
        env |= {} if "CONSTRAINT" in name else {name: value}  # of what is not installed here
    assert of("WORKDIR", 0) == ["/source"]
    for words in of("RUN", 0):
        line = words.replace("/opt/durableq", str(target))
        line = re.sub(r"^python ", f"{sys.executable} ", line)
        done = subprocess.run(
            ["sh", "-c", line], cwd=source, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    shown = subprocess.run(
        [target / "bin/durableq", "--version"], env=env, capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("durableq ")
    assert list(target.glob("lib/*/site-packages/durableq/migrations/env.py"))


def test_the_image_has_no_root_and_starts_the_command_itself() -> None:
    assert of("USER", 1) == ["10001:10001"]
    assert json.loads(of("ENTRYPOINT", 1)[0]) == ["durableq"]
    assert of("VOLUME", 1) == ["/var/lib/durableq"]
    (check,) = of("HEALTHCHECK", 1)
    assert json.loads(check.partition("CMD ")[2])[1] == "/opt/durableq/bin/durableq-healthy"
    assert "packaging/docker/healthy.py /opt/durableq/bin/durableq-healthy" in of("COPY", 1)
    names = [step.name for step in steps() if step.stage == 1]
    assert names.index("USER") > max(n for n, name in enumerate(names) if name == "RUN")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder with a file, a message in it, and a handler that waits for a gate."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "handler.sh").write_text(LATE)
    (folder / "handler.sh").chmod(0o755)
    with DurableQ(new_file(folder / "shop.db")) as dq:
        dq.queue("orders").send("x")
    return folder


@pytest.fixture
def container(state: Path, nursery: Nursery) -> tuple[Child, psutil.Process]:
    """A fleet as PID 1 of a container, and that process as it is seen from here."""
    inside = walled(state, pid_1=True)
    words = ["work", "--db", "shop.db", "--queue", "orders", "--exec", "./handler.sh"]
    fleet = nursery.run(*inside, sys.executable, "-m", "durableq", *words, cwd=state)
    fleet.wait_until((state / "began").exists, "the handler to have begun")
    (first,) = psutil.Process(fleet.pid).children()
    return fleet, first


def test_as_pid_1_it_lets_handlers_finish_and_leaves_no_zombies(
    state: Path, container: tuple[Child, psutil.Process]
) -> None:
    fleet, first = container
    first.send_signal(signal.SIGTERM)
    fleet.wait_until(lambda: "stopping: workers finish" in fleet.complaints, "the stop")
    (state / "gate").touch()
    assert fleet.end() == 0
    assert completed(state / "shop.db", "orders") == 1


def test_as_pid_1_it_reaps_the_orphans_of_handlers(
    container: tuple[Child, psutil.Process], state: Path
) -> None:
    _, first = container
    (state / "gate").touch()

    def zombies() -> list[psutil.Process]:
        return [one for one in first.children() if one.status() == psutil.STATUS_ZOMBIE]

    wait_for(lambda: completed(state / "shop.db", "orders") == 1, what="the handler to end")
    wait_for(lambda: len(first.children()) == 1 and not zombies(), what="the orphan to be reaped")


def health(
    container: psutil.Process | None, state: Path, *, beside: bool = False
) -> tuple[int, str]:
    """Run the health check, as `docker exec` does.

    Args:
        container: the first process of a container; None for no container.
        state: the folder of the file.
        beside: run it in another container that shares the pid namespace with this one.
    """
    path = state / "bin"
    path.mkdir(exist_ok=True)
    (path / "durableq").write_text(f'#!/bin/sh\nexec {sys.executable} -m durableq "$@"\n')
    (path / "durableq").chmod(0o755)
    within = ["nsenter", f"--target={container.pid}", "--pid", "--mount"] if container else []
    within += ["unshare", "--mount"] if beside else []
    done = subprocess.run(
        [*within, sys.executable, str(HEALTHY)],
        env=environment(PATH=f"{path}:{os.environ['PATH']}", DURABLEQ_DB=str(state / "shop.db")),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    return done.returncode, done.stdout.strip()


def test_a_container_is_healthy_while_its_own_workers_show_signs_of_life(
    container: tuple[Child, psutil.Process], state: Path
) -> None:
    fleet, first = container
    assert health(first, state) == (0, "1 of 1 workers of this container show signs of life")
    assert health(None, state) == (1, "0 of 0 workers of this container show signs of life")
    neighbour = health(first, state, beside=True)
    assert neighbour == (1, "0 of 0 workers of this container show signs of life")
    (state / "gate").touch()
    first.terminate()
    assert fleet.end() == 0
    (state / "shop.db").unlink()
    code, said = health(None, state)
    assert (code, "There is no database" in said) == (1, True)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.postgresql.yaml"])
def test_the_paths_of_a_compose_file_are_there(name: str) -> None:
    folder = ROOT / "packaging/docker"
    text = (folder / name).read_text()
    for path in re.findall(r'"?((?:\.\./)+[\w/]*)', text):
        assert (folder / path).exists(), path


def test_the_commands_of_the_compose_file_are_commands() -> None:
    text = (ROOT / "packaging/docker/compose.yaml").read_text()
    commands = [json.loads(found) for found in re.findall(r"command: (\[.*\])", text)]
    assert [command[0] for command in commands] == COMMANDS
    for name, *words in commands:
        shown = subprocess.run(
            [sys.executable, "-m", "durableq", name, "--help"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=True,
        )
        options = {word for word in words if word.startswith("--")}
        assert options <= set(re.findall(r"--[a-z-]+", shown.stdout))

"""Output of handlers past Python: control characters are shown, and no process blocks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from durableq import DurableQ
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import PATH, ROOT, Nursery
from tests.process.printing_app import APP
from tests.support import new_file, scaled, wait_for

SHOWN = "\\e[31m\\u202e"


def put(db: Path, *bodies: str) -> None:
    with DurableQ(new_file(db)) as dq:
        dq.queue("orders", max_receives=1).send_many(bodies)


def test_output_of_programs_and_raw_descriptors_is_made_visible(db: Path, nursery: Nursery) -> None:
    put(db, "odd", "unfinished")
    fleet = nursery.work("--db", db, "--app", APP, "--drain")
    assert fleet.end() == 0
    for said in ("print", "program", "stdout", "stderr"):
        assert f"{said} {SHOWN}\n" in fleet.complaints
    assert fleet.complaints.index("print ") < fleet.complaints.index("program ")
    assert "no end of line\n" in fleet.complaints
    assert f"no end {SHOWN}\n" in fleet.complaints, "it is shown when the worker ends"
    assert not {"\x1b", "\u202e"} & set(fleet.complaints)


def test_with_logs_as_json_every_line_of_them_is_an_event_of_its_worker(
    db: Path, nursery: Nursery
) -> None:
    put(db, "odd")
    fleet = nursery.work("--db", db, "--app", APP, "--drain", "--log-format", "json")
    assert fleet.end() == 0
    lines = [json.loads(line) for line in fleet.complaints.splitlines()]
    printed = [line["text"] for line in lines if line["event"] == "printed"]
    assert printed == [
        *(f"{said} \x1b[31m\u202e" for said in ("print", "program", "stdout", "stderr")),
        "no end of line",
    ]
    assert {line["process"] for line in lines if line["event"] == "printed"} == {"worker-1"}


def test_output_of_a_command_that_is_no_result_is_shown(db: Path, nursery: Nursery) -> None:
    put(db, "x")
    script = r"printf 'not JSON \033[31m\n'; printf 'beside it' >&2"
    command = f'/bin/sh -c "{script}"'
    fleet = nursery.work("--db", db, "--queue", "orders", "--exec", command, "--drain")
    assert fleet.end() == 0
    assert "not JSON \\e[31m\nbeside it\n" in fleet.complaints
    put(db, "x")
    large = f'{sys.executable} -c "print(list(range(99_999)))"'
    fleet = nursery.work("--db", db, "--queue", "orders", "--exec", large, "--drain")
    assert fleet.end() == 0
    assert "a result has at most 262144, so it is shown and not kept" in fleet.complaints


def test_the_last_output_of_a_killed_worker_comes_before_its_death(
    db: Path, nursery: Nursery
) -> None:
    put(db, "die")
    fleet = nursery.work("--db", db, "--app", APP, "--drain")
    assert fleet.end() == 0
    assert f"last words {SHOWN}\n" in fleet.complaints


def test_a_program_that_keeps_the_output_open_keeps_no_fleet_from_ending(
    db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    put(db, "leave", "odd")
    fleet = nursery.work("--db", db, "--app", APP, "--drain")
    assert fleet.end() == 0
    (pid,) = (int(line.of) for line in ledger.lines("left"))
    os.kill(pid, signal.SIGKILL)
    assert plain.counters(db, "orders")["completed"] == 2


def test_a_stderr_that_takes_nothing_blocks_no_handler(db: Path) -> None:
    put(db, "much", "much", "odd")
    reads, writes = os.pipe()
    command = ["work", "--db", str(db), "--app", APP, "--drain", "--json"]
    fleet = subprocess.Popen(
        [sys.executable, "-m", "durableq", *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(PATH)},
        stdout=subprocess.DEVNULL,
        stderr=writes,
    )
    os.close(writes)
    try:
        assert fleet.wait(scaled(60)) == 0
    finally:
        fleet.kill()
        os.close(reads)
    assert plain.counters(db, "orders")["completed"] == 3


def test_without_its_supervisor_a_worker_shows_the_output_by_itself(
    db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    put(db, "outlive")
    fleet = nursery.work("--db", db, "--app", APP)
    fleet.wait_until(lambda: ledger.lines("begun"), "the handler to begin")
    fleet.signal(signal.SIGKILL)
    fleet.process.wait(scaled(30))
    ledger.open_gate()
    wait_for(lambda: plain.counters(db, "orders")["completed"] == 1, what="its end", seconds=30)
    said = f"printed {SHOWN} to the end\n"
    assert wait_for(lambda: said in fleet.complaints, what="its output")

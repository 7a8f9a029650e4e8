"""Kill `durableq serve` under load, again and again, then check that it kept its messages.

python -m tests.chaos.served_run --kills 200 --postgres

Workers of Python take messages of the FIFO queue from the same database, and are killed too.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from durableq import DurableQ
from durableq.model.health import Level
from durableq.store.core import Capability
from durableq.testing.chaos.server import Server
from tests.chaos.served_client import Client, Endpoint
from tests.chaos.served_ledger import (
    hold_problems,
    move_problems,
    order_problems,
    problems,
    trial_problems,
)
from tests.chaos.served_load import Load
from tests.chaos.served_queues import ARN, DEAD, FIFO, MOVED, SOURCE, STANDARD, TRIALS, TRIALS_DEAD
from tests.support import wait_for

#: Between the first answer of a server and its end, in seconds.
LIFE_SECONDS: Final = (0.1, 1.5)
#: A fleet is killed after each of so many servers.
FLEET_EVERY: Final = 5
#: Until all messages that are left have been received.
DRAIN_SECONDS: Final = 300
_WORKER: Final = "tests.chaos.served_app:dq"
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


@dataclass(frozen=True)
class Result:
    """The end of a run.

    Args:
        problems: in words; none in an honest run.
        counts: figures of the run, by name.
    """

    problems: list[str]
    counts: dict[str, int]


class Fleet:
    """Workers of Python on the same database.

    Args:
        database: a path or a URL.
        order_file: see Load.
        log: the file of their output.
    """

    def __init__(self, database: str, order_file: Path, log: Path) -> None:
        self._log = log
        self._environment = {
            **os.environ,
            "DURABLEQ_DB": database,
            "SERVED_ORDER": str(order_file),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "durableq", "work", "--app", _WORKER, "--queue", FIFO]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, *, whole: bool) -> None:
        """Kill a worker, or all and their supervisor; a supervisor replaces a worker."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        if whole:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(60)
            self.start()
            return
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children():
                child.kill()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)


@contextmanager
def _running(load: Load, fleet: Fleet) -> Iterator[None]:
    fleet.start()
    load.start()
    try:
        yield
    finally:
        load.stop.set()
        fleet.stop()


def run(
    kills: int, folder: Path, *, seed: int = 0, database: str = "", show: Any = print
) -> Result:
    """Kill the server this many times, and return what was found.

    Args:
        kills: of the server.
        folder: for the database and the logs.
        seed: of the times between kills.
        database: URL; by default a file in the folder.
        show: is told of the progress.
    """
    rng, database, unsound = random.Random(seed), database or str(folder / "queue.db"), list[str]()
    endpoint = Endpoint(database, folder / "server.log")
    endpoint.start()
    load = Load(endpoint.port, folder / "order.txt")
    load.create_queues()
    fleet = Fleet(database, load.order_file, folder / "fleet.log")
    pause = threading.Event()
    try:
        with _running(load, fleet):
            wait_for(
                lambda: load.errors or (load.moves and load.parcels.counts()["deleted"]),
                seconds=60,
                what="the first deletion and the first move task",
            )
            for number in range(1, kills + 1):
                pause.wait(rng.uniform(*LIFE_SECONDS))
                endpoint.kill()
                endpoint.start()
                if number % FLEET_EVERY == 0:
                    fleet.kill(whole=number % (2 * FLEET_EVERY) == 0)
                if load.errors:
                    break
                if number % 10 == 0:
                    show(f"{number} kills, {dict(load.parcels.counts())}")
                    unsound += _unsound(database)
        load.end()
        unsound += _unsound(database)
        found = load.errors or unsound + _check(load, endpoint.port)
        return Result(found, _figures(load, number))
    finally:
        endpoint.stop()


def _unsound(database: str) -> list[str]:
    """Return rows that contradict others, in words: groups above all."""
    with DurableQ(database) as dq:
        found = dq.store.require(Capability.MAINTENANCE).orphans()
    return [f"{one.name}: {one.what}" for one in found if one.level is not Level.OK]


def _figures(load: Load, kills: int) -> dict[str, int]:
    parcels, steps = load.parcels.counts(), load.steps.counts()
    takers = Counter(line.split()[2] for line in load.order_file.read_text().splitlines())
    return {
        "kills": kills,
        "parcels deleted": parcels["deleted"],
        "parcels left": parcels["sent"],
        "sends without an answer": parcels["unanswered"],
        "steps sent": steps.total(),
        "steps taken by clients": takers["client"],
        "steps taken by workers": takers["worker"],
        "receives repeated": load.holds.repeated,
        "calls": len(load.calls),
        "trials": len(load.trials.messages),
        "move tasks": len(load.moves),
    }


def _check(load: Load, port: int) -> list[str]:
    client = Client(port)
    parcels = _drained(client, STANDARD)
    steps = _drained(client, FIFO)
    load.bury(client)
    _wait_for_moves(client)
    load.start_move(client)
    _wait_for_moves(client)
    behind, calls, trials = (
        [body for queue in queues for _, body in _drained(client, queue)]
        for queues in ((DEAD,), (SOURCE, MOVED), (TRIALS, TRIALS_DEAD))
    )
    client.close()
    received = load.order_file.read_text().splitlines() + [body for _, body in steps]
    return [
        *problems(load.parcels, parcels),
        *problems(load.steps, steps, workers=True),
        *_unreached(load, received),
        *order_problems(received),
        *hold_problems(load.holds.held),
        *load.holds.lost,
        *(f"{body} stayed in {DEAD}" for body in behind),
        *move_problems(load.calls, calls + behind),
        *trial_problems(load.trials, trials),
    ]


def _unreached(load: Load, received: Sequence[str]) -> list[str]:
    """Return the steps that no one received, neither in the run nor at its end."""
    there = {" ".join(text.split()[:2]) for text in received}
    missing = load.steps.messages.keys() - there
    return [f"{body} was sent, and is lost" for body in missing if load.steps.messages[body].sent]


def _wait_for_moves(client: Client) -> None:
    def have_ended() -> bool:
        found = [
            one
            for queue in (DEAD, TRIALS_DEAD)
            for one in client("ListMessageMoveTasks", SourceArn=f"{ARN}{queue}", MaxResults=10).get(
                "Results", []
            )
        ]
        return all(one["Status"] in {"COMPLETED", "CANCELLED"} for one in found)

    wait_for(have_ended, seconds=240, what="the end of the move tasks")


def _drained(client: Client, queue: str) -> list[tuple[str, str]]:
    """Return id and body of each message of a queue, also of those that the run has leased."""
    url, found, is_fifo = client.url(queue), list[tuple[str, str]](), queue.endswith(".fifo")

    def present() -> int:
        counts = client("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return sum(int(counts[name]) for name in _COUNTS)

    receive = {"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 43_200}
    end = time.monotonic() + DRAIN_SECONDS
    left = present()
    while left and time.monotonic() < end:
        messages = client("ReceiveMessage", **receive, WaitTimeSeconds=1).get("Messages", [])
        found += [(message["MessageId"], message["Body"]) for message in messages]
        if is_fifo:  # the next ones of a group come when these are gone
            for message in messages:
                client("DeleteMessage", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        left = present() if is_fifo else present() - len(found)
    assert not left, f"{left} messages of {queue} cannot be received"
    return found


@contextmanager
def _own_server() -> Iterator[str]:
    """Start a server of PostgreSQL for a run; yield its URL."""
    server = Server("fsync=on")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--db", default="", metavar="URL", help="a schema of PostgreSQL")
    places.add_argument("--postgres", action="store_true", help="start a server of PostgreSQL")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="durableq-served-"))
    with _own_server() if chosen.postgres else nullcontext(chosen.db) as database:
        result = run(chosen.kills, folder, seed=chosen.seed, database=database)
    for text in result.problems:
        print(text)
    print(result.counts)
    if result.problems:
        print(f"The database, the logs and the order of the steps are in {folder}.")
    else:
        shutil.rmtree(folder)
    print("Nothing was lost or doubled." if not result.problems else "FAILED")
    return bool(result.problems)


if __name__ == "__main__":
    sys.exit(main())

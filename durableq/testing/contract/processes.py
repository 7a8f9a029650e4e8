"""Several processes on one store: each message has one owner at a time, and nothing is lost."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from durableq.model.dead_letters import DeadLetterFilter, RedriveState, WholeQueue
from durableq.model.decisions import Requeue
from durableq.model.message import Draft, Event, Failure, Reason, draft
from durableq.store.core import Capability
from durableq.testing.contract import race
from durableq.testing.contract.case import ContractCase, FullStore, counters_reconcile, needs

PROCESSES = race.RUNNERS
MESSAGES = 400


class MultiProcessContract(ContractCase):
    """The promises between processes, for an engine whose stores have a URL."""

    #: The function that opens a URL in a new process, as `module:function`.
    opener: str

    def url(self, tmp_path: Path) -> str:
        """Return the URL of a store of your engine that does not exist yet."""
        raise NotImplementedError(f"{type(self).__name__} must override url.")

    @pytest.fixture
    def shared(self, tmp_path: Path) -> Iterator[FullStore]:
        """This process's view of the store the others race on."""
        module, _, function = self.opener.partition(":")
        open_store = getattr(importlib.import_module(module), function)
        with closing(open_store(self.url(tmp_path))) as store:
            store.declare_queue(race.QUEUE, {"max_receives": 1000})
            yield self.check(store)

    def run(self, role: str, tmp_path: Path) -> list[list[str]]:
        """Run a role of `race` in every process at once; return all ledgers, line by line."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-P", race.__file__, self.opener, self.url(tmp_path), role]
        with ExitStack() as stack:
            processes = []
            for seed in range(PROCESSES):
                process = subprocess.Popen(
                    [*command, str(seed)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
                stack.enter_context(process)
                stack.callback(process.kill)
                processes.append(process)
            return _race(processes)

    @needs(Capability.INSPECT)
    def test_racing_receivers_are_each_given_other_messages(
        self, shared: FullStore, tmp_path: Path
    ) -> None:
        ids = shared.send(race.QUEUE, [draft(number) for number in range(MESSAGES)])
        ledger = self.run("hold", tmp_path)
        received = [message_id for _, message_id in ledger]
        assert len(received) == MESSAGES
        assert set(received) == set(ids)
        assert shared.queue(race.QUEUE).counts.in_flight == MESSAGES
        assert {message.receive_count for message in shared.peek(race.QUEUE, MESSAGES)} == {1}

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_racing_workers_settle_each_message_once(
        self, shared: FullStore, tmp_path: Path
    ) -> None:
        ids = shared.send(race.QUEUE, [draft(number) for number in range(MESSAGES)])
        ledger = self.run("settle", tmp_path)
        did = Counter(line[0] for line in ledger)
        assert did["completed"] == MESSAGES
        assert {line[1] for line in ledger if line[0] == "completed"} == set(ids)
        assert did["received"] == did["completed"] + did["failed"] + did["released"]
        assert did["failed"] > 0 < did["released"]
        assert did["refused"] == 0
        assert shared.queue(race.QUEUE).counters.completed == MESSAGES
        assert sum(len(shared.history(message_id)) for message_id in ids) == did["failed"]
        assert counters_reconcile(shared)

    @needs(Capability.INSPECT)
    def test_racing_workers_complete_each_key_once(self, shared: FullStore, tmp_path: Path) -> None:
        keys = [f"order-{number}" for number in range(MESSAGES // 10)]
        batch: list[Draft] = [draft(key, key=key) for key in keys * 10]
        ids = shared.send(race.QUEUE, batch)
        ledger = self.run("settle", tmp_path)
        completed = Counter(line[2] for line in ledger if line[0] == "completed")
        assert completed == Counter(keys)
        ended = [line[1] for line in ledger if line[0] in {"completed", "duplicate"}]
        assert len(ended) == MESSAGES
        assert set(ended) == set(ids)
        counters = shared.queue(race.QUEUE).counters
        assert (counters.completed, counters.duplicates) == (len(keys), MESSAGES - len(keys))
        assert counters_reconcile(shared)

    @needs(Capability.DEAD_LETTERS, Capability.REDRIVE, Capability.INSPECT)
    def test_racing_redrives_move_each_dead_letter_once(
        self, shared: FullStore, tmp_path: Path
    ) -> None:
        ids = shared.send(race.QUEUE, [draft(number) for number in range(MESSAGES)])
        received = shared.receive(race.QUEUE, MESSAGES).messages
        leases = [message.receipt for message in received if message.receipt is not None]
        shared.fail([(lease, Failure(Reason.REJECTED, "E", "")) for lease in leases])
        meant = (DeadLetterFilter(), DeadLetterFilter(), WholeQueue(f"{race.QUEUE}-dlq"))
        tasks = [shared.start_redrive(wanted, Requeue("again")) for wanted in meant]
        self.run("redrive", tmp_path)
        ended = [shared.redrive_task(task.id) for task in tasks]
        assert [task.state for task in ended] == [RedriveState.DONE] * 3
        assert sum(task.moved for task in ended) == MESSAGES
        for message_id in ids:
            events = [event.event for event in shared.history(message_id)]
            assert events == [Event.FAILED, Event.BURIED, Event.REQUEUED]
        assert shared.queue(race.QUEUE).counts.ready == MESSAGES
        assert counters_reconcile(shared)

    def test_a_write_of_any_process_ends_the_waits_of_the_others(
        self, shared: FullStore, tmp_path: Path
    ) -> None:
        """No timer wakes a runner: a missed write would stop them all."""
        for number in range(race.RUNNERS):
            shared.declare_queue(f"{race.QUEUE}-{number}", {})
        shared.send(f"{race.QUEUE}-0", [draft("start")])
        did = Counter(line[0] for line in self.run("relay", tmp_path))
        assert (did["missed"], did["refused"]) == (0, 0)
        assert did["ran"] == race.RUNNERS * race.LAPS

    @needs(Capability.INSPECT)
    def test_racing_senders_lose_nothing(self, shared: FullStore, tmp_path: Path) -> None:
        ledger = self.run("send", tmp_path)
        answered = {message_id: f'"{body}"' for _, message_id, body in ledger}
        expected = PROCESSES * race.BATCHES * race.BATCH
        assert len(ledger) == len(answered) == expected
        stored = {message.id: message.body for message in shared.peek(race.QUEUE, expected + 1)}
        assert stored == answered
        assert shared.queue(race.QUEUE).counters.sent == expected


def _race(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "READY\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ledger = []
    for process in processes:
        output, _ = process.communicate(timeout=2 * race.DEADLINE_SECONDS)
        assert process.returncode == 0
        ledger += [line.split(" ") for line in output.splitlines()]
    return ledger

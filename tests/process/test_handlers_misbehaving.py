"""Handlers that misbehave: nothing is lost, and the log shows the cause."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from durableq import DurableQ
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Child, Nursery
from tests.process.unruly import APP, OWN_BYTES
from tests.support import new_file

HARMLESS = [
    "change_directory",
    "print_for_a_terminal",
    "print_megabytes",
    "close_stdout",
    "fork_and_return",
    "fork_and_raise",
    "terminate_a_child",
    "fork_while_another_prints",
    "take_over_a_signal",
    "speechless_afterwards",
]
FAILING = {
    "recursion": "RecursionError",
    "exit_politely": "SystemExit",
    "speechless": "Speechless",
    "unwritable": "ValueError",
    "unformattable": "SyntaxError",
    "own_base_exception": "Own",
    "unreadable_wait": "Waiting",
    "generator": "InvalidResult",
    "coroutine": "InvalidResult",
    "StopIteration": "StopIteration",
    "GeneratorExit": "GeneratorExit",
    "MemoryError": "MemoryError",
    "KeyboardInterrupt": "KeyboardInterrupt",
    "SystemExit": "SystemExit",
}
CLOSED = "exit code 71, a handler closed file descriptors that are not its own"
DEADLY = {
    "exit_0": "exit code 0",
    "exit_3": "exit code 3",
    "real_time_signal": f"signal {signal.SIGRTMIN + 3}",
    "crash": "SIGSEGV",
    "close_descriptors": CLOSED,
    "put_others_in_their_place": CLOSED,
}
OUTCOMES = """
SELECT m.key, h.reason, h.error_type FROM durableq_history AS h
JOIN durableq_message AS m ON m.id = h.message_id WHERE h.event = 'failed'"""


def prepare(folder: Path, queue: str, *bodies: str, receives: int = 1) -> Path:
    """Send a message for each body, with the body as its key."""
    db = folder / "queue.db"
    with DurableQ(new_file(db)) as dq:
        dq.queue("after")
        orders = dq.queue(queue, max_receives=receives, backoff_base=0)
        for body in bodies:
            orders.send(body, key=body, attributes={"folder": str(folder)})
    return db


def start(nursery: Nursery, folder: Path, queue: str, *options: object) -> Child:
    """Start a fleet that names its database by a relative path; its stderr is buffered."""
    given = ["--db", "queue.db", "--app", APP, "--queue", queue, *options]
    return nursery.work(*given, cwd=folder, PYTHONUNBUFFERED="")


def outcomes(db: Path) -> dict[str, tuple[str, str]]:
    return {key: (reason, error) for key, reason, error in plain.rows(db, OUTCOMES)}


def test_misbehaviour_that_a_worker_survives_costs_at_most_the_message(
    tmp_path: Path, nursery: Nursery
) -> None:
    db = prepare(tmp_path, "orders", *FAILING, *HARMLESS, "good")
    fleet = start(nursery, tmp_path, "orders", "--drain")
    assert fleet.end() == 0
    assert outcomes(db) == {key: ("handler_error", error) for key, error in FAILING.items()}
    assert plain.counters(db, "orders")["completed"] == len(HARMLESS) + 1
    assert fleet.complaints.count(") started") == 1, "the worker died"
    assert plain.counters(db, "after")["sent"] == 1
    for said in ("\\e[2Jcleared\\x07 \\u202e", "said after stdout was closed", "mmm", "forked"):
        assert said in fleet.complaints
    assert not {"\x1b", "\x07", "\u202e"} & set(fleet.complaints)
    plain.check_sound(db)


def test_misbehaviour_that_kills_a_worker_costs_only_its_message(
    tmp_path: Path, nursery: Nursery
) -> None:
    bodies = [body for deadly in DEADLY for body in (f"before {deadly}", deadly)]
    db = prepare(tmp_path, "orders", *bodies, "last")
    fleet = start(nursery, tmp_path, "orders", "--drain")
    assert fleet.end() == 0
    assert outcomes(db) == {key: ("worker_lost", cause) for key, cause in DEADLY.items()}
    assert plain.counters(db, "orders")["completed"] == len(DEADLY) + 1
    for cause in DEADLY.values():
        assert f"died: {cause}; restarting" in fleet.complaints
    # There may be none: the worker ends as soon as one of its threads notices.
    own = {path.read_bytes() for path in tmp_path.glob("own-*")}
    assert own <= {b"", OWN_BYTES}, "the worker wrote to them"
    plain.check_sound(db)


@pytest.mark.parametrize("misdeed", ["swallow_everything", "endless_message"])
def test_a_handler_that_swallows_everything_is_stopped_by_its_time_limit(
    tmp_path: Path, nursery: Nursery, misdeed: str
) -> None:
    db = prepare(tmp_path, "orders", "good", misdeed, "another")
    fleet = start(nursery, tmp_path, "orders", "--drain", "--timeout", 0.5)
    assert fleet.end() == 0
    assert {key: reason for key, (reason, _) in outcomes(db).items()} == {misdeed: "timeout"}
    assert plain.counters(db, "orders")["completed"] == 2
    assert "for more than 0.5 s: stopped" in fleet.complaints
    plain.check_sound(db)


@pytest.mark.parametrize("misdeed", ["swallow_everything", "ignore_sigterm", "leave_a_thread"])
def test_a_worker_that_a_handler_keeps_from_stopping_is_stopped_when_its_grace_is_over(
    tmp_path: Path, nursery: Nursery, misdeed: str
) -> None:
    db = prepare(tmp_path, "orders", misdeed)
    fleet = start(nursery, tmp_path, "orders", "--grace", 0.5)
    fleet.wait_until(lambda: Ledger(db).lines("begun"), "the misdeed")
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 128 + signal.SIGTERM
    assert "did not finish within 0.5 s: stopped" in fleet.complaints
    left = [(0, 0)] if misdeed == "swallow_everything" else []
    assert plain.rows(db, "SELECT state, receive_count FROM durableq_message") == left
    plain.check_sound(db)


def test_a_thread_that_never_ends_does_not_keep_a_drained_fleet_for_ever(
    tmp_path: Path, nursery: Nursery
) -> None:
    db = prepare(tmp_path, "orders", "leave_a_thread")
    fleet = start(nursery, tmp_path, "orders", "--drain", "--grace", 0.5)
    assert fleet.end() == 0
    assert "did not finish within 0.5 s: stopped" in fleet.complaints
    assert fleet.complaints.count(") started") == 1
    assert plain.counters(db, "orders")["completed"] == 1


def test_without_a_supervisor_the_kernel_ends_a_worker_that_a_thread_keeps(
    tmp_path: Path, nursery: Nursery
) -> None:
    db = prepare(tmp_path, "orders", "leave_a_thread")
    worker = nursery.worker(db, "orders", app=APP, drain=True, grace_ms=100)
    assert worker.end() == -signal.SIGALRM
    assert plain.counters(db, "orders")["completed"] == 1


def test_a_coroutine_that_harms_its_event_loop_does_not_keep_others_from_finishing(
    tmp_path: Path, nursery: Nursery
) -> None:
    harm = ["stop the loop", "exit aside", "cancel all", "exit", "cancel"]
    goods = [f"good {number}" for number in range(20)]
    db = prepare(tmp_path, "coroutines", *harm, *goods, receives=3)
    fleet = start(nursery, tmp_path, "coroutines", "--drain")
    assert fleet.end() == 0
    assert fleet.complaints.count(") started") == 1, "the worker died"
    dead = set(plain.column(db, "SELECT key FROM durableq_message"))
    assert dead == {"exit", "cancel"}
    assert set(outcomes(db).values()) <= {
        ("handler_error", "SystemExit"),
        ("handler_error", "CancelledError"),
    }
    plain.check_sound(db)

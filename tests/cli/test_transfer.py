"""`transfer`: its output, its JSON and its exit codes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from durableq.admin import transfer as moving
from durableq.engines.sql.moving import SQLEnd
from tests.cli.console import COMMAND, Run, Shop, environment
from tests.support import scaled, wait_for
from tests.transfer.places import revision, rows


def stock(shop: Shop) -> None:
    shop.queue.send_many([{"n": number} for number in range(3)])
    shop.queue.receive()
    shop.dq.close()


def test_a_dry_run_says_how_much(run: Run, shop: Shop, tmp_path: Path) -> None:
    stock(shop)
    shown = run("transfer", "--to", "new.db", "--dry-run")
    assert (shown.code, shown.err) == (0, "")
    width = len(f"{shop.queue.name}-dlq")
    assert shown.lines == [
        f"From {tmp_path}/durableq.db to new.db (new):",
        "2 queues",
        "3 messages",
        "2 states of breakers",
        "2 rows of counters",
        f"queue {shop.queue.name:<{width}}  2 ready, 1 in_flight",
        f"queue {shop.queue.name}-dlq  empty",
        "1 lease would be given back, uncounted.",
        "Nothing forbids it. Nothing was changed.",
    ]
    told = run("transfer", "--to", "new.db", "--dry-run", "--json").json
    assert told["rows"]["durableq_message"] == 3
    assert (told["target_is"], told["leases"], told["refusals"]) == ("new", 1, [])
    assert not (tmp_path / "new.db").exists()


def test_a_dry_run_that_finds_an_obstacle_is_unhealthy(run: Run, shop: Shop) -> None:
    stock(shop)
    run("queue", "create", "mine", "--db", "new.db")
    shown = run("transfer", "--to", "new.db", "--dry-run")
    assert shown.code == 6
    assert "new.db is not empty (2 in durableq_queue, " in shown.lines[-1]
    assert run("transfer", "--to", "new.db").code == 5


def test_a_transfer_counts_the_rows_that_it_moved(run: Run, shop: Shop, tmp_path: Path) -> None:
    stock(shop)
    shown = run("transfer", "--from", "durableq.db", "--to", "new.db")
    assert (shown.code, shown.err) == (0, "")
    old, new = f"{tmp_path}/durableq.db", f"{tmp_path}/new.db"
    assert shown.lines == [
        f"From {old} to {new}:",
        "2 queues",
        "3 messages",
        "2 states of breakers",
        "2 rows of counters",
        "1 lease was given back, uncounted.",
        "All rows were compared: they are the same.",
        f"Give the new address from here on: {new}",
    ]
    back = run("transfer", "--db", "new.db", "--to", "back.db", "--json").json
    assert (back["source"], back["target"]) == (new, f"{tmp_path}/back.db")
    assert (back["rows"]["durableq_message"], back["released"]) == (3, 0)
    assert (back["resumed"], back["findings"]) == (False, [])


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("transfer", "--to", "third.db"), 1),
        (("status",), 1),
        (("queue", "list"), 1),
        (("doctor",), 6),
        (("transfer", "--to", "new.db", "--abort"), 5),
    ],
)
def test_each_command_on_the_old_address_names_the_new_one(
    run: Run, shop: Shop, tmp_path: Path, command: tuple[str, ...], code: int
) -> None:
    stock(shop)
    run("transfer", "--to", "new.db")
    shown = run(*command)
    assert shown.code == code
    told = " ".join(f"{shown.out} {shown.err}".split())
    assert f"was moved to {tmp_path}/new.db" in told
    assert "Give that address" in told


def test_ctrl_c_says_how_it_goes_on_and_abort_undoes_it(
    run: Run, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(shop)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SQLEnd, "put", interrupt)
        shown = run("transfer", "--to", "new.db")
    assert shown.code == 130
    assert "`durableq transfer --from durableq.db --to new.db` goes on" in shown.err
    waiting = run("produce", "--queue", "orders")
    assert waiting.code == 1
    assert "is being moved to" in waiting.err
    shown = run("transfer", "--to", "new.db", "--abort")
    assert (shown.code, shown.err) == (0, "")
    assert shown.lines == [
        f"{tmp_path}/durableq.db works again.",
        f"{tmp_path}/new.db is empty again.",
    ]
    assert run("queue", "list").code == 0
    told = run("transfer", "--to", "new.db", "--abort")
    assert told.code == 5
    assert "is not being moved" in told.err


def test_options_that_contradict_each_other_are_refused(run: Run) -> None:
    shown = run("transfer", "--to", "new.db", "--abort", "--dry-run")
    assert shown.code == 2
    assert "--dry-run looks, --abort undoes: give one of them." in shown.err
    assert run("transfer", "--to", "new.db").code == 3
    assert run("transfer").code == 2


def test_the_progress_is_shown_on_a_terminal(shop: Shop, tmp_path: Path) -> None:
    stock(shop)
    leader, follower = pty.openpty()
    command = [*COMMAND, "transfer", "--to", "new.db"]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=follower,
        timeout=scaled(60),
        check=True,
    )
    os.close(follower)
    shown = os.read(leader, 1 << 16).decode(errors="replace")  # cut by the size of the buffer
    os.close(leader)
    assert "copied" in shown
    assert "%" in shown
    assert b"All rows were compared" in ended.stdout


def test_sigint_stops_a_transfer_which_goes_on(shop: Shop, tmp_path: Path) -> None:
    shop.queue.send_many(range(10_000))
    shop.dq.close()
    command = [*COMMAND, "transfer", "--to", "new.db"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    target = str(tmp_path / "new.db")

    def has_begun() -> bool:
        return revision(str(shop.path)) == "moving" or process.poll() is not None

    wait_for(has_begun, seconds=30, what="the mark of the source")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=scaled(60))
    if process.returncode:  # not at its end already
        assert process.returncode == 130
        assert "goes on; with --abort, it is undone" in told
        assert moving.transfer(str(shop.path), target).resumed
    assert rows(target) == 10_000

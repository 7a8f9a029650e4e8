"""`status`, `peek`, `show`, and the properties of all output."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from durableq import Reject, Requeue
from durableq.cli.output import exit_code
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.errors import (
    Busy,
    Conflict,
    DurableQError,
    InvalidBody,
    InvalidInput,
    NewerDatabase,
    StaleReceipt,
    UnknownQueue,
)
from tests.cli.console import COMMAND, Run, Shop, environment, warm
from tests.cli.test_help import COMMANDS, RUN
from tests.engine import plain
from tests.support import scaled

HOSTILE = "\x1b[31m\x07\u202egnp.exe\u2066\x9b\x7f\r\ninjected"
OBEYED = set("\x1b\x07\u202e\u2066\x9b\x7f\r")


def test_status_counts_stored_and_ended_messages(run: Run, shop: Shop) -> None:
    shop.complete(key="k")
    shop.complete(key="l")
    shop.bury()
    shop.queue.send("ready")
    shop.queue.send("delayed", delay=60)
    shown = run("status")
    assert shown.code == 0
    head, row, blank, workers, blank_too, neglected, _, keys, storage, database = shown.lines
    assert dict(zip(head.split(), row.split()[:6], strict=False)) == {
        "QUEUE": "orders",
        "READY": "1",
        "DELAYED": "1",
        "IN_FLIGHT": "0",
        "DEAD": "1",
        "HELD": "0",
    }
    assert row.split()[-7:] == ["5", "2", "0", "0", "0", "0", "0"]
    assert (blank, workers, blank_too) == ("", "No workers.", "")
    none = "No running worker is registered, so none handles 'orders'; 2 messages wait there."
    assert neglected == none
    assert keys.split(maxsplit=1) == ["keys", "0 in progress, 2 completed"]
    assert storage.startswith("storage   sqlite ")
    assert storage.endswith("synchronous full")
    assert database == "database  durableq.db"


def test_status_as_json_has_every_queue_and_its_counters(run: Run, shop: Shop) -> None:
    shop.bury()
    status = run("status", "--json").json
    orders, dead = status["queues"]
    assert (orders["name"], orders["dead_letter_queue"]) == ("orders", "orders-dlq")
    assert (dead["counts"]["ready"], dead["dead_letter_queue"]) == (1, None)
    assert orders["totals"]["moved_out"] == dead["totals"]["moved_in"] == 1
    assert (status["workers"], status["breakers"]) == ([], {})
    assert status["idempotency"] == {"in_progress": 0, "completed": 0}
    assert set(status["storage"]) == {
        "engine",
        "version",
        "durability",
        "size_bytes",
        "log_bytes",
        "index_bytes",
    }


def test_peek_pages_in_order_without_receiving(run: Run, shop: Shop) -> None:
    ids = shop.queue.send_many(range(5))
    first = run("peek", "--limit", 2, "--json").rows
    rest = run("peek", "--after", first[-1]["id"], "--json").rows
    assert [message["id"] for message in first + rest] == ids
    assert {message["receive_count"] for message in first + rest} == {0}


def test_peek_finds_the_newest_that_match(run: Run, shop: Shop) -> None:
    first, second, third = (
        shop.queue.send({"city": city}, key=city, delay=delay)
        for city, delay in (("Oslo", 0), ("Bergen", 60), ("Oslo west", 60))
    )
    newest = run("peek", "--newest", "--limit", 2, "--json")
    assert [message["id"] for message in newest.rows] == [third, second]
    assert newest.err == f"Looked down to message {second}. Go on with --after {second}.\n"
    rest = run("peek", "--newest", "--after", second, "--json")
    assert ([message["id"] for message in rest.rows], rest.err) == ([first], "")
    for options, ids in (
        (["--text", "Oslo"], [third, first]),
        (["--text", "Oslo", "--state", "delayed"], [third]),
        (["--key", "Bergen"], [second]),
        (["--state", "blocked"], []),
    ):
        assert [message["id"] for message in run("peek", *options, "--json").rows] == ids
    wrong = run("peek", "--state", "dead")
    assert (wrong.code, wrong.err.partition(" See")[0]) == (
        2,
        "durableq: --state is one of ready, in_flight, delayed and blocked, got 'dead'.",
    )


def test_peek_needs_a_name_only_beside_other_queues(run: Run, shop: Shop) -> None:
    assert run("peek").code == 0
    shop.dq.queue("mail").info()
    which = run("peek")
    assert which.code == 2
    assert which.err.startswith("durableq: Name the queue with --queue; there are: mail, orders.")
    assert run("peek", "--queue", "mail").code == 0
    assert run("peek", "--queue", "post").code == 3


def test_a_long_body_is_cut_in_a_table_and_whole_when_shown(run: Run, shop: Shop) -> None:
    message_id = shop.queue.send("x" * 500)
    assert "…" in run("peek").out
    assert "x" * 500 in run("show", message_id).out


def test_bytes_are_shown_as_bytes(run: Run, shop: Shop) -> None:
    message_id = shop.queue.send(b"\x00\xff")
    assert r"2 bytes: b'\x00\xff'" in run("peek").out
    assert run("show", message_id, "--json").json["body_base64"] == "AP8="


STATES: list[tuple[Callable[[Shop], str], str]] = [
    (lambda shop: shop.queue.send("b"), "ready in orders"),
    (lambda shop: shop.queue.send("b", delay=90), "delayed in orders until "),
    (lambda shop: shop.queue.send("b") and shop.queue.receive()[0].id, "in flight in orders; "),
    (lambda shop: shop.bury(), "ready in orders-dlq"),
]


@pytest.mark.parametrize(("arrange", "words"), STATES, ids=[words for _, words in STATES])
def test_show_gives_the_state_in_words(
    arrange: Callable[[Shop], str], words: str, run: Run, shop: Shop
) -> None:
    shown = run("show", arrange(shop))
    assert shown.code == 0
    assert f"state     {words}" in shown.out.replace("state         ", "state     ")


def test_explain_says_when_a_message_expires(run: Run, shop: Shop) -> None:
    message_id = shop.queue.send("a", expires_in=3_600)
    told = run("explain", message_id).out
    assert "(in 59 min): unless it has succeeded by then, it is dropped." in told
    run("queue", "set", "orders", "--on-expiry", "dead")
    assert "it is moved to the dead-letter queue." in run("explain", message_id).out


def test_show_gives_the_whole_history_in_order(run: Run, shop: Shop) -> None:
    message_id = shop.bury({"order": 7}, Reject("no such card"), key="order-7")
    assert run("dlq", "redrive", message_id).code == 0
    story = run("show", message_id)
    events = [line.split()[1] for line in story.lines if line.startswith("20")]
    assert events == ["failed", "buried", "requeued"]
    assert "Reject: no such card" in story.out
    assert "order-7" in story.out
    shown = run("show", message_id, "--json").json
    assert [event["event"] for event in shown["history"]] == events
    assert (shown["state"], shown["recovery_count"], shown["generation"]) == ("ready", 1, 2)


def test_show_knows_a_message_that_has_ended(run: Run, shop: Shop) -> None:
    discarded, recovered = shop.bury(1), shop.bury(2)
    assert run("dlq", "discard", discarded, "--yes").code == 0
    assert run("dlq", "redrive", recovered).code == 0
    shop.queue.receive()[0].complete()
    assert "ended: removed by a decision" in run("show", discarded).out
    assert "ended: completed, recognised as a duplicate, or purged" in run("show", recovered).out
    assert run("show", discarded, "--json").json["state"] == "ended"


@pytest.mark.parametrize("message_id", ["999", "9" * 40, "x", "-", "\uff11"])
def test_show_of_an_unknown_message_is_nothing_found(message_id: str, run: Run, shop: Shop) -> None:
    shown = run("show", message_id)
    assert (shown.code, shown.out) == (3, "")
    assert f"There is no message {message_id} in this database." in shown.err


def test_the_content_of_a_message_cannot_command_the_terminal(run: Run, shop: Shop) -> None:
    def fail() -> ValueError:
        try:
            raise ValueError(HOSTILE)
        except ValueError as error:
            return error

    message_id = shop.bury({"note": HOSTILE}, fail(), key=HOSTILE, attributes={"a": HOSTILE})
    shop.complete({"note": HOSTILE}, HOSTILE, key=HOSTILE + "2")
    shop.dq.once(HOSTILE, lambda: HOSTILE, ttl=3600)
    for command in (
        ("status",),
        ("peek", "--queue", shop.dead),
        ("show", message_id),
        ("dlq", "list"),
        ("dlq", "show", message_id),
        ("idempotency", "list"),
        ("idempotency", "get", HOSTILE + "2"),
        ("idempotency", "get", HOSTILE + "3"),
        ("once", "list"),
        ("once", "get", HOSTILE),
        ("once", "get", HOSTILE + "3"),
        ("once", "forget", HOSTILE),
        ("queue", "create", HOSTILE),
        ("dlq", "discard", HOSTILE),
        (HOSTILE,),
    ):
        for shown in (run(*command), run(*command, "--json")):
            assert not OBEYED & set(shown.out + shown.err), command
            assert not any(
                line.startswith("injected") for line in (shown.out + shown.err).splitlines()
            )
    assert run("dlq", "list", "--json").rows[0]["body"] == {"note": HOSTILE}


READ_ONLY = ["status", "peek", "show", "dlq list", "dlq show", "idempotency get", "queue list"]


@pytest.mark.parametrize("path", [*READ_ONLY, "queue set", "queue purge", "idempotency prune"])
def test_a_missing_database_is_not_made_by_looking(path: str, run: Run, tmp_path: Path) -> None:
    needs = {"show": ["1"], "dlq show": ["1"], "idempotency get": ["k"], "queue purge": ["q"]}
    more = {"queue set": ["q", "--delay", "1"]} | needs
    for db in ("missing.db", "sqlite:///missing.db?synchronous=normal"):
        shown = run(*path.split(), *more.get(path, []), "--db", db)
        assert (shown.code, shown.out) == (3, "")
        assert "Create it with `durableq init`" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_reading_changes_nothing(run: Run, shop: Shop) -> None:
    shop.bury()
    shop.queue.send("b")

    def content() -> dict[str, list[object]]:
        """All rows but the stored time, which any command renews when it is old."""
        tables = plain.column(shop.path, "SELECT name FROM sqlite_schema WHERE type = 'table'")
        stored = {name: plain.rows(shop.path, f"SELECT * FROM {name}") for name in tables}
        meta = stored["durableq_meta"]
        stored["durableq_meta"] = [row for row in meta if not row[0].startswith("clock")]
        return stored

    before = content()
    for command in (["status"], ["peek"], ["show", "1"], ["dlq", "list"], ["dlq", "show", "1"]):
        run(*command)
        run(*command, "--json")
    assert content() == before
    shop.queue.send("b")
    assert content() != before


def test_the_database_and_json_may_be_named_before_or_after(run: Run, tmp_path: Path) -> None:
    assert run("init", "--db", "a.db").code == 0
    assert run("queue", "create", "mail", "--db", "a.db").code == 0
    for command in (
        ["--db", "a.db", "--json", "queue", "list"],
        ["queue", "--db", "a.db", "--json", "list"],
        ["queue", "list", "--db", "a.db", "--json"],
        ["--db", "nowhere.db", "--json", "queue", "list", "--db", "a.db"],
    ):
        assert [info["name"] for info in run(*command).rows] == ["mail", "mail-dlq"]
    assert not (tmp_path / "nowhere.db").exists()


def test_the_environment_names_the_database(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLEQ_DB", "b.db")
    assert run("init").code == 0
    assert [path.name for path in tmp_path.glob("*.db")] == ["b.db"]


@pytest.mark.parametrize("place", [["--db", "", "status"], ["status", "--db", ""]])
def test_an_empty_name_of_a_database_counts_as_unset(
    place: list[str], run: Run, shop: Shop
) -> None:
    shown = run(*place)
    assert shown.code == 2
    assert "--db: it is empty" in shown.err.replace("'", "")


@pytest.mark.parametrize(
    "command",
    [("produce", "--queue", ""), ("work", "--app", "", "--drain"), ("recover", "--app", "")],
    ids=" ".join,
)
def test_an_empty_name_is_refused_and_the_demo_not_run(
    command: tuple[str, ...], run: Run, shop: Shop
) -> None:
    shown = run(*command)
    assert shown.code == 2
    assert f"{command[1]}: it is empty" in shown.err.replace("'", "")
    assert shop.bodies() == []


def test_a_command_refuses_a_database_in_memory(run: Run) -> None:
    for command in (["produce"], ["status"], ["init"], ["work"], ["recover"], ["demo"]):
        shown = run(*command, "--db", "memory://")
        assert shown.code == 1
        assert "memory:// ends with this command" in shown.err


def test_every_error_has_its_exit_code() -> None:
    codes = {
        UnknownQueue("q"): 3,
        Busy(""): 4,
        Conflict(""): 5,
        StaleReceipt("1", ""): 5,
        InvalidBody(""): 1,
        InvalidInput(""): 2,
        NewerDatabase(""): 1,
        DurableQError(""): 1,
    }
    assert {error: exit_code(error) for error in codes} == codes


def test_an_error_of_the_system_is_not_called_a_defect(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_store: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", "private/queue.db")

    monkeypatch.setattr(type(shop.store), "queues", unreachable)
    shown = run("status")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err == (
        "durableq: private/queue.db cannot be used: Permission denied. Check the path.\n"
    )


def test_a_defect_is_one_line_and_its_traceback_can_be_shown(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_store: object, **_options: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(type(shop.store), "queues", broken)
    shown = run("status")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err == (
        "durableq: ZeroDivisionError: by nought. "
        "This is a defect; DURABLEQ_DEBUG=1 shows the traceback.\n"
    )
    monkeypatch.setenv("DURABLEQ_DEBUG", "1")
    assert "Traceback" in run("status").err


def test_a_reader_that_leaves_is_no_error(shop: Shop, tmp_path: Path) -> None:
    shop.queue.send_many(["x" * 1000] * 500)
    with subprocess.Popen(
        [*warm(), "peek", "--limit", "500", "--json"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(scaled(30)) == 141
        assert child.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_an_error(shop: Shop, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*COMMAND, "status"],
            cwd=tmp_path,
            env=environment(PYTHONIOENCODING="ascii"),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == b"durableq: The output cannot be written: No space left on device.\n"


#: The arguments of commands that need some, but no id.
ARGUMENTS = {
    "produce": ["--count", "2"],
    **{f"breaker {verb}": ["orders"] for verb in ("open", "close")},
    **{f"queue {verb}": ["mail"] for verb in ("pause", "resume")},
    "peek": ["--queue", "orders"],
    "queue create": ["mail", "--delay", "1"],
    "queue set": ["mail", "--delay", "2"],
    "queue purge": ["mail", "--yes"],
    "queue delete": ["mail", "--yes"],
    "dlq resume": ["1"],
    "dlq cancel": ["1"],
    "dlq redrive": ["--group", "none"],
    "idempotency get": ["k", "--queue", "orders"],
    "idempotency forget": ["k", "--queue", "orders"],
    "idempotency list": ["--queue", "orders"],
    "once get": ["k"],
    "once forget": ["k"],
    **{f"schedule {verb}": ["tick"] for verb in ("show", "pause", "resume", "run", "remove")},
    "recover": ["--dry-run", "--db", "durableq.db"],
    "backup": ["copy.db"],
    "completion": ["bash"],
    "restore": ["copy.db", "--db", "restored.db"],
}


#: The commands whose --json is a line for each row.
LISTS = {
    *("peek", "queue list", "dlq list", "dlq groups", "dlq redrives", "dlq moves"),
    *("breaker show", "events", "idempotency list", "once list"),
    "schedule list",
}


def test_every_command_has_json(run: Run, shop: Shop) -> None:
    """Each prints one document; `recover` prints one for each dead letter."""
    shop.complete(key="k", result={"ok": True})
    shop.store.declare_queue("orders", {"breaker": 1})
    shop.dq.once("k", lambda: 1, ttl=3600)
    shop.dq.every("@daily", "tick", queue="orders")
    one, _, three = shop.bury(1), shop.bury(2), shop.bury(3)
    cancelled, later, now = shop.queue.send_many(["a", "b", "c"])
    running = shop.store.start_redrive(DeadLetterFilter(fingerprint="none"), Requeue())
    shop.dq.close()
    arguments = ARGUMENTS | {
        "show": [one],
        "explain": [one],
        "message cancel": [cancelled, "--yes"],
        "message reschedule": [later, "--delay", "60"],
        "message run-now": [now],
        "dlq show": [one],
        "dlq explain": [one, "--db", "durableq.db"],
        "dlq set": [running.id, "--rate", "off"],
        "dlq discard": [three, "--yes"],
        "lint": ["--target", "postgres"],
        "transfer": ["--to", "moved.db", "--dry-run"],
    }
    last = {"queue delete", "idempotency forget", "once forget", "dlq resume", "dlq cancel"}
    last.add("schedule remove")
    order = sorted(COMMANDS - RUN, key=lambda path: (path in last, path))
    for path in order:
        shown = run(*path.split(), *arguments.get(path, []), "--json")
        assert shown.code == 0, (path, shown)
        is_list = path in LISTS or path == "recover"
        documents = shown.rows if is_list else [shown.json]
        assert [document["schema"] for document in documents], path

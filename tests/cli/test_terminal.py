"""On a terminal: lines that fit, whole numbers, and a colour where something is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from durableq import Discard, DurableQ, Hold
from durableq.cli.screen import wrapped
from durableq.model.info import WorkerInfo, WorkerStats
from durableq.supervisor.liveness import this_process
from tests.cli.console import Result, Run, Shop, forked
from tests.cli.terminals import ESCAPE, Shown, on_terminal
from tests.engine import plain

LONG = "orders-of-all-customers-in-northern-europe-with-a-name-of-76-characters-here"
LIMITS: dict[str, Any] = {
    "rate": 1_000.0,
    "max_in_flight": 1_000_000,
    "retry_share": 0.5,
    "breaker": 1,
    "max_backlog": 90_000_000,
    "max_backlog_bytes": 9_000_000_000_000,
}
RED, YELLOW = "\x1b[31m", "\x1b[33m"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a database with long names, large numbers and many limits."""
    folder = tmp_path_factory.mktemp("crowded")
    shop = Shop(folder / "durableq.db", LONG)
    for number in range(3):
        shop.bury({"order": 700_000_000 + number, "text": "x" * 200}, ValueError("y " * 90))
    (held,) = shop.store.receive(shop.dead, 1).messages
    shop.store.decide([(held.receipt, Hold("ask Ann"))])
    shop.store.decide_by_id(shop.dead, [shop.bury("gone")], Discard("a test"))
    shop.queue.send_many([{"order": 123_456_789, "note": "a b " * 40}] * 3)
    shop.queue.send("later", key="order 7", delay=3_600)
    shop.dq.queue("paused").info()
    shop.store.declare_queue("paused", {"paused": 1})
    shop.store.declare_queue(LONG, LIMITS)
    me = shop.store.register(this_process("worker-of-the-shop-1:1234567"))
    shop.store.receive(LONG, 3, owner_id=me.owner_id)
    shop.store.beat(me.owner_id, WorkerStats("working", 98_765_432_101, 87_654, 3, 1))
    shop.store.register(WorkerInfo("worker-2:18", 4_194_303, 1, me.boot_id, me.pid_namespace))
    shop.dq.close()
    plain.script(
        shop.path,
        "UPDATE durableq_counters SET sent = sent + 12345678901, "
        "completed = completed + 12340000000 WHERE sent > 0",
    )
    return folder


COMMANDS = {
    "status": (),
    "peek": ("--queue", LONG),
    "queue list": (),
    "dlq list": (),
    "dlq groups": (),
    "dlq show": ("1",),
    "show": ("6",),
    "explain": ("6",),
    "doctor": (),
    "audit": (),
    "breaker show": (),
    "idempotency list": ("--queue", LONG),
    "dlq redrives": (),
}


@pytest.mark.parametrize(
    ("command", "columns"), [("status", 60), ("status", 120), *((one, 80) for one in COMMANDS)]
)
def test_every_line_fits_and_no_number_is_cut(command: str, columns: int, crowded: Path) -> None:
    words = [*command.split(), *COMMANDS[command]]
    shown, piped = on_terminal(*words, cwd=crowded, columns=columns), forked(*words, cwd=crowded)
    assert (shown.code, piped.code) in {(0, 0), (6, 6)}, shown
    assert [line for line in shown.lines if len(line) > columns] == []
    assert numbers(piped.out) <= numbers("\n".join(shown.lines))


def numbers(text: str) -> set[str]:
    """Return the long numbers in a text; short ones may be ages, which change."""
    return set(re.findall(r"(?<!\d)\d{5,}(?!\d)", text))


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_row_of_status_is_one_line(columns: int, crowded: Path) -> None:
    lines = on_terminal("status", cwd=crowded, columns=columns).lines
    heads = [line.split() for line in lines if line.startswith(("QUEUE", "WORKER"))]
    assert [head for part in heads if part[0] == "QUEUE" for head in part[1:]] == [
        *("READY", "DELAYED", "IN_FLIGHT", "DEAD", "HELD", "OLDEST", "IN/S", "OUT/S", "SENT"),
        *("COMPLETED", "DISCARDED"),
    ]
    for name, begins in (
        ("QUEUE", "orders-o"),
        ("QUEUE", "paused (paused)"),
        ("WORKER", "worker-2"),
    ):
        parts = sum(head[0] == name for head in heads)
        assert sum(line.startswith(begins) for line in lines) == parts, lines


def test_a_line_is_broken_between_words_and_never_in_a_number() -> None:
    assert [*wrapped("a bc def", 80)] == ["a bc def"]
    assert [*wrapped("one two three four", 9, 2)] == ["one two", "  three", "  four"]
    body = '{"order":123456789,"count":987654321}'
    assert [*wrapped(body, 20, 0)] == ['{"order":123456789,', '"count":987654321}']
    assert max(map(len, wrapped("x" * 100, 30, 4))) == 30
    assert "".join(line.strip() for line in wrapped("x" * 100, 30, 4)) == "x" * 100
    path = "/srv/" + "x" * 100
    assert [*wrapped(f"It is {path}.", 30, 4, keeps_words=True)] == ["It is", f"    {path}."]
    assert [*wrapped(path, 30, 4, keeps_words=True)] == [path]


def coloured(shown: Shown, colour: str) -> list[str]:
    """Return the texts that have a colour."""
    return re.findall(re.escape(colour) + r"(.*?)\x1b\[0m", shown.text)


def test_a_colour_shows_where_something_is_wrong(crowded: Path) -> None:
    status = on_terminal("status", cwd=crowded, columns=200)
    assert coloured(status, RED) == ["3", "dead"]
    assert coloured(status, YELLOW) == ["1", "paused (paused)"]
    assert coloured(on_terminal("dlq", "list", cwd=crowded), YELLOW) == ["held"]
    audit = on_terminal("audit", cwd=crowded)
    assert {*coloured(audit, RED)} == {"bad", "something is bad"}
    assert "warn" in coloured(on_terminal("doctor", cwd=crowded), YELLOW)
    assert coloured(on_terminal("show", "999", cwd=crowded), RED) == ["durableq:"]


def test_an_open_breaker_and_a_queue_without_workers_have_a_colour(
    shop: Shop, tmp_path: Path
) -> None:
    shop.queue.send(1)
    shop.store.declare_queue("orders", {"breaker": 1})
    shop.store.set_breaker("orders", is_open=True, open_ms=60_000, actor="a test")
    shop.dq.close()
    status = on_terminal("status", cwd=tmp_path)
    assert coloured(status, RED) == ["breaker: open"]
    assert coloured(status, YELLOW) == ["No running worker"]
    assert coloured(on_terminal("breaker", "show", cwd=tmp_path), RED) == ["open"]


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"NO_COLOR": "no"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("words", ["status", "audit", "dlq list", "show 999", "--help"])
def test_no_colour_is_shown_where_it_is_not_wanted(
    words: str, env: dict[str, str], crowded: Path
) -> None:
    shown = on_terminal(*words.split(), cwd=crowded, env=env)
    assert "\x1b" not in shown.text
    said = " ".join(shown.lines)
    assert {"status": "paused (paused)", "audit": "bad", "dlq list": "held"}.get(words, "") in said


def test_a_pipe_gets_no_escape_sequence(crowded: Path) -> None:
    for words in ("status", "audit", "dlq list", "show 999", "--help"):
        piped = forked(*words.split(), cwd=crowded, TERM="xterm", NO_COLOR="")
        assert not ESCAPE.search(piped.out + piped.err), words


# ---- the database, and how many there are


def test_text_output_names_its_database_once(run: Run, shop: Shop) -> None:
    shop.complete(key="k")
    one, two = shop.bury(1), shop.bury(2)
    waiting = shop.queue.send(3, delay=60)
    shop.dq.once("v", lambda: 1, ttl=60)
    shop.store.declare_queue("orders", {"breaker": 1})
    shop.dq.close()
    for words in (
        *("status", "doctor", "audit", "peek", f"show {one}", f"explain {one}"),
        *("init", "migrate", "prune", "queue list", "queue create mail", "queue pause orders"),
        *("queue resume orders", "queue set orders --delay 1", "queue purge mail --yes"),
        *("queue delete mail --yes", "breaker show", "breaker open orders", "breaker close orders"),
        *("dlq list", "dlq groups", f"dlq show {one}", f"dlq redrive {one}", "dlq redrives"),
        *(f"dlq discard {two} --yes", f"message run-now {waiting}", f"message cancel {waiting} -y"),
        *(
            "events",
            "idempotency list",
            "idempotency get k",
            "idempotency forget k",
            "idempotency prune",
        ),
        *("once list", "once get v", "once forget v", "backup copy.db", "recover --dry-run"),
        *("dlq redrive --all", "lint --target sqs", "work --drain", "produce --count 1"),
    ):
        command = [*words.split()]
        if words.startswith(("recover", "lint", "work")):
            command += ["--db", "durableq.db"]
        shown = run(*command)
        assert shown.code in {0, 6}, (words, shown)
        assert len(re.findall(r"durableq\.db", shown.out + shown.err)) == 1, (words, shown)
        assert "Database: " not in shown.out, words
        if command[0] not in {"work", "recover", "produce", "lint", "backup", "prune"}:
            assert "Database: " not in run(*command, "--json").err, words


def test_an_error_alone_does_not_name_the_database(run: Run, shop: Shop) -> None:
    assert run("queue", "pause", "nowhere").err.startswith("durableq: There is no queue 'nowhere'")


def test_a_password_is_not_shown(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from durableq.cli.options import Session

    url = "postgresql://shop:secret@db.example/shop"
    Session().name(url)
    assert capsys.readouterr().err == "Database: postgresql://shop:***@db.example/shop\n"
    refused = run("restore", "copy.db", "--db", url, "--replace")
    assert refused.code == 2
    assert "postgresql://shop:***@db.example/shop" in refused.err
    assert "secret" not in refused.err


def last(shown: Result) -> str:
    return shown.err.splitlines()[-1]


MORE = "; --limit N shows more, --after"


def check_totals(run: Run, *expected: tuple[str, str]) -> None:
    """Check the last line of lists; with --json there is none."""
    for words, says in expected:
        assert last(run(*words.split())) == says, words
        silent = run(*words.split(), "--json").err.splitlines()
        assert [line for line in silent if not line.startswith("Looked down")] == [], words


def test_a_list_of_messages_ends_with_how_many_there_are(run: Run, shop: Shop) -> None:
    assert last(run("peek")) == "0 messages."
    ids = shop.queue.send_many(range(1_001))
    shop.dq.close()
    check_totals(
        run,
        ("peek --limit 5", f"5 of 1,001 messages{MORE} {ids[4]} the next."),
        ("peek --limit 2000", "1,001 messages."),
        (f"peek --after {ids[-3]}", "2 of 1,001 messages."),
        ("peek --newest --limit 1", f"1 of 1,001 messages{MORE} {ids[-1]} the next."),
        ("peek --state ready --limit 1", f"1 of 1,001 messages{MORE} {ids[-1]} the next."),
        ("peek --text 1000", "1 message."),
        ("peek --text 99 --limit 1", f"1 of at least 1 message{MORE} {ids[999]} the next."),
    )


def test_a_list_of_dead_letters_and_keys_ends_with_how_many_there_are(run: Run, shop: Shop) -> None:
    for number in range(3):
        shop.complete(key=f"key {number}")
        shop.bury(number)
        shop.dq.once(f"value {number}", lambda: 1, ttl=60)
    shop.dq.close()
    more = f"{MORE} {run('dlq', 'list', '--json').rows[1]['id']} the next."
    check_totals(
        run,
        ("dlq list", "3 dead letters."),
        ("dlq list --limit 2", f"2 of 3 dead letters{more}"),
        ("dlq list --limit 2 --queue orders", f"2 of 3 dead letters{more}"),
        ("dlq list --limit 2 --reason handler_error", f"2 of 3 dead letters{more}"),
        ("dlq list --limit 2 --older-than 0", f"2 of at most 3 dead letters{more}"),
        ("dlq groups", "1 group of 3 dead letters."),
        ("dlq redrives", "0 redrive tasks."),
        ("queue list", "2 queues."),
        ("breaker show orders", "1 breaker."),
        ("idempotency list", "3 keys."),
        ("idempotency list --limit 1", f"1 of 3 keys{MORE} 'key 0' the next."),
        ("once list", "3 values."),
        ("once list --limit 2", f"2 of 3 values{MORE} 'value 1' the next."),
    )


def test_a_long_list_of_keys_is_counted_up_to_a_bound(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        shop.complete(key=f"{number}")
    shop.dq.close()
    for module in ("totals", "idempotency"):
        monkeypatch.setattr(f"durableq.cli.{module}.MOST_COUNTED", 2)
    assert "1 of more than 2 keys; " in last(run("idempotency", "list", "--limit", 1))


def test_the_database_is_named_before_a_question(tmp_path: Path) -> None:
    with DurableQ(tmp_path / "durableq.db") as dq:
        dq.queue("orders").send(1)
    refused = forked("queue", "purge", "orders", cwd=tmp_path)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    shown = on_terminal("queue", "purge", "orders", cwd=tmp_path, typed=b"n\n")
    assert shown.code == 1
    database, question = (
        shown.text.index(words) for words in ("Database: durableq.db", "Remove all 1 message of")
    )
    assert database < question

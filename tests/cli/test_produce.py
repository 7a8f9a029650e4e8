"""`produce` with good lines and bad ones: none is lost, and each bad one is reported."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from durableq.engines.sqlite.store import SQLStore
from tests.cli.console import COMMAND, Run, Shop, environment, forked, warm
from tests.support import scaled, wait_for

MEBIBYTE = 1 << 20
STATUS = Path("/proc/self/status")


def lines_file(tmp_path: Path, *lines: bytes | str) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    return path


def test_lines_become_messages_in_order(run: Run, shop: Shop, tmp_path: Path) -> None:
    bodies: list[Any] = [{"order": 7}, [1, "ü"], "text", 1.5, None, True, 10**400, {"": "\x00"}]
    file = lines_file(tmp_path, *map(json.dumps, bodies))
    sent = run("produce", file, "--queue", "orders")
    assert (sent.code, sent.out) == (0, "")
    assert sent.said.startswith("Sent 8 messages to orders in ")
    assert "1 commit)" in sent.err
    assert shop.bodies() == bodies


def test_byte_order_marks_carriage_returns_and_blank_lines_are_ignored(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    file = lines_file(tmp_path, b"\xef\xbb\xbf[1]\r", b"", b"  \t\r", b"[2]\r")
    assert run("produce", file, "--queue", "orders").code == 0
    assert shop.bodies() == [[1], [2]]


BAD: list[tuple[bytes, str]] = [
    (b"{", "it is not JSON: Expecting property name"),
    (b"[1", "A line is one whole JSON value (JSON Lines)."),
    (b"hello", "it is not JSON: Expecting value, column 1."),
    (b'{"a": 1} {"b": 2}', "it is not JSON: Extra data, column 10."),
    (b'"caf\xe9"', "it is not UTF-8 (byte 0xe9 at position 5)."),
    ('{"a":1}'.encode("utf-16"), "it is not UTF-8 (byte 0xff at position 1)."),
    (b"NaN", "NaN is not a JSON number."),
    (b"[-Infinity]", "-Infinity is not a JSON number."),
    (b"1e999", "the number 1e999 would become inf: no double holds it."),
    (b'"\\ud800"', "a lone surrogate (U+D800)"),
    (b"[" * 300 + b"]" * 300, "nested more than 200 levels deep"),
    (b"[" * 200_000, "it is nested too deep."),
    (b"1" * 5000, "a number of thousands of digits"),
    (b'"' + b"x" * MEBIBYTE + b'"', "The body has 1048578 bytes; this queue takes at most 1048576"),
    (b'"' + b"x" * 8 * MEBIBYTE + b'"', "at most 7340032 are read of a line"),
]


@pytest.mark.parametrize(("line", "why"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_a_bad_line_is_named_and_the_messages_before_it_stay_sent(
    line: bytes, why: str, run: Run, shop: Shop, tmp_path: Path
) -> None:
    file = lines_file(tmp_path, "[1]", "", "[2]", line, "[3]")
    sent = run("produce", file, "--queue", "orders", "--batch-size", 1000)
    assert (sent.code, sent.out) == (1, "")
    assert sent.err.startswith("durableq: Line 4: ")
    assert why in sent.err
    assert sent.err.endswith("2 messages were sent before it and stay sent.\n")
    assert shop.bodies() == [[1], [2]]


def test_skip_bad_sends_every_good_line_and_counts_the_others(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    lines: list[bytes] = []
    for number, (line, _) in enumerate(BAD):
        lines += [line, b"[%d]" % number]
    sent = run("produce", lines_file(tmp_path, *lines), "--queue", "orders", "--skip-bad", "--json")
    assert sent.code == 0
    assert (sent.json["sent"], sent.json["skipped"]) == (len(BAD), len(BAD))
    assert sent.err.count("was skipped: ") == len(BAD)
    assert f"skipped {len(BAD)} bad lines" in sent.err
    assert shop.bodies() == [[number] for number in range(len(BAD))]


def test_skip_bad_reports_twenty_and_counts_the_rest(run: Run, shop: Shop, tmp_path: Path) -> None:
    file = lines_file(tmp_path, *["?"] * 25, "[1]")
    sent = run("produce", file, "--queue", "orders", "--skip-bad")
    assert sent.code == 0
    assert sent.err.count("was skipped: ") == 20
    assert "5 more lines skipped." in sent.err
    assert shop.bodies() == [[1]]


def test_skip_bad_gives_up_after_many_bad_lines_in_a_row(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    file = lines_file(tmp_path, "?", "?", "[1]", *["?"] * 9)
    options = ("--queue", "orders", "--skip-bad", "--max-bad", 3, "--json")
    sent = run("produce", file, *options)
    assert sent.code == 1
    assert "Line 6: it is not JSON" in sent.err
    assert "That is 3 bad lines in a row; --max-bad allows more." in sent.err
    assert "1 message was sent before it and stays sent; 5 bad lines skipped." in sent.err
    assert (sent.json["sent"], sent.json["skipped"], sent.json["bad_line"]) == (1, 5, 6)
    assert shop.bodies() == [[1]]


def test_an_endless_stream_of_bad_lines_ends(tmp_path: Path, shop: Shop) -> None:
    command = [*warm(), "produce", "-", "--queue", "orders", "--skip-bad"]
    with subprocess.Popen(["yes", "?"], stdout=subprocess.PIPE) as endless:
        ended = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment(),
            stdin=endless.stdout,
            capture_output=True,
            timeout=scaled(60),
            check=False,
        )
        endless.kill()
    assert ended.returncode == 1
    assert b"That is 10,000 bad lines in a row" in ended.stderr
    assert b"Nothing was sent, 10,000 bad lines skipped." in ended.stderr


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")
@pytest.mark.parametrize("skip_bad", [[], ["--skip-bad"]])
def test_a_line_without_an_end_is_refused(skip_bad: list[str], run: Run, shop: Shop) -> None:
    sent = run("produce", "/dev/zero", "--queue", "orders", *skip_bad)
    assert (sent.code, sent.out) == (1, "")
    assert "Line 1 of /dev/zero has no end within 256 MiB" in sent.err
    assert "Nothing was sent" in sent.err
    assert shop.bodies() == []


def test_ctrl_c_counts_the_skipped_lines(tmp_path: Path, shop: Shop) -> None:
    command = [*COMMAND, "produce", "-", "--queue", "orders", "--skip-bad", "--json"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(b"?\n?\n")
        child.stdin.flush()
        first, second = child.stderr.readline(), child.stderr.readline()
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
        counts = json.loads(child.stdout.read())
    assert b"Line 1 was skipped" in first
    assert b"Line 2 was skipped" in second
    assert b"Interrupted. Nothing was sent, 2 bad lines skipped." in rest
    assert counts["skipped"] == 2
    assert child.returncode == 130


def test_a_bad_first_line_says_that_nothing_was_sent(run: Run, shop: Shop, tmp_path: Path) -> None:
    sent = run("produce", lines_file(tmp_path, "?"), "--queue", "orders", "--json")
    assert sent.code == 1
    assert "Nothing was sent." in sent.err
    assert (sent.json["sent"], sent.json["bad_line"]) == (0, 1)
    assert shop.bodies() == []


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file_has_nothing_to_send(
    content: str, run: Run, shop: Shop, tmp_path: Path
) -> None:
    sent = run("produce", lines_file(tmp_path, content), "--queue", "orders")
    assert sent.code == 0
    assert sent.said == f"Nothing to send: {tmp_path / 'lines.jsonl'} is empty.\n"
    assert shop.bodies() == []


def test_a_file_that_cannot_be_read_is_an_error(run: Run, shop: Shop, tmp_path: Path) -> None:
    for file, why in ((tmp_path, "Is a directory"), ("nowhere", "No such file or directory")):
        sent = run("produce", file, "--queue", "orders")
        assert sent.code == 1
        assert sent.err == f"durableq: {file} cannot be read: {why}.\n"
    assert shop.bodies() == []


def test_an_unknown_queue_is_refused_with_the_known_ones(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    sent = run("produce", lines_file(tmp_path, "1"), "--queue", "mail")
    assert sent.code == 3
    assert "There is no queue 'mail' in this database." in sent.err
    assert "There are: orders, orders-dlq." in sent.err
    assert "durableq queue create mail" in sent.err
    assert [info.name for info in shop.store.queues()] == ["orders", "orders-dlq"]


def test_a_dead_letter_queue_takes_no_messages(run: Run, shop: Shop, tmp_path: Path) -> None:
    sent = run("produce", lines_file(tmp_path, "1"), "--queue", shop.dead)
    assert sent.code == 5
    assert "Send to 'orders'. Nothing was sent.\n" in sent.err


def test_a_named_queue_in_a_missing_file_makes_no_file(run: Run, tmp_path: Path) -> None:
    sent = run("produce", lines_file(tmp_path, "1"), "--queue", "orders")
    assert (sent.code, (tmp_path / "durableq.db").exists()) == (3, False)
    assert "There is no database at durableq.db." in sent.err
    assert "`durableq queue create orders` makes both." in sent.err


def test_an_envelope_sets_every_option_of_a_message(run: Run, shop: Shop, tmp_path: Path) -> None:
    envelope = {
        "body": {"a": 1},
        "key": "k",
        "delay": 60,
        "priority": -3,
        "attributes": {"from": "test", "n": 1.5},
        "expires_in": 3_600,
        "group": "g",
    }
    bare = {"body": None, "key": None, "delay": None, "priority": None, "attributes": None}
    file = lines_file(tmp_path, json.dumps(envelope), json.dumps(bare), '{"body": 1, "key": 12}')
    assert run("produce", file, "--queue", "orders", "--envelope").code == 0
    full, empty, numbered = run("peek", "--json").rows
    for name in ("body", "key", "priority", "attributes", "group"):
        assert full[name] == envelope[name]
    ends_at_ms = full["sent_at_ms"] + 3_600_000
    assert (full["state"], full["expires_at_ms"]) == ("delayed", ends_at_ms)
    assert (empty["body"], empty["key"], empty["state"]) == (None, None, "ready")
    assert numbered["key"] == "12"


@pytest.mark.parametrize(
    ("envelope", "why"),
    [
        ("[]", "an envelope is an object like"),
        ("{}", "the envelope has no body."),
        (
            '{"body": 1, "prio": 2}',
            "Unknown envelope field 'prio'. Did you mean 'priority'? There are body, ",
        ),
        ('{"body": 1, "key": ""}', "A key is a string of 1 to 512 characters"),
        ('{"body": 1, "key": true}', "the key in 'key' is neither a string nor a number."),
        ('{"body": 1, "key": 1e999}', "the number 1e999 would become inf"),
        ('{"body": 1, "key": "\\ud800"}', "contains a lone surrogate."),
        ('{"body": 1, "delay": -1}', "A delay is a number of seconds of at least 0"),
        ('{"body": 1, "delay": "soon"}', "A delay is a number of seconds of at least 0"),
        ('{"body": 1, "delay": 1e999}', "the number 1e999 would become inf"),
        ('{"body": 1, "priority": 101}', "A priority is a whole number from -100 to 100"),
        ('{"body": 1, "priority": 0.0}', "the priority is not a whole number."),
        ('{"body": 1, "priority": false}', "the priority is not a whole number."),
        ('{"body": 1, "attributes": []}', "the attributes are not an object."),
        ('{"body": 1, "attributes": {"a": null}}', "attributes hold strings and numbers"),
    ],
)
def test_a_wrong_envelope_is_refused_with_its_fault(
    envelope: str, why: str, run: Run, shop: Shop, tmp_path: Path
) -> None:
    file = lines_file(tmp_path, '{"body": 0}', envelope)
    sent = run("produce", file, "--queue", "orders", "--envelope")
    assert sent.code == 1
    assert sent.err.startswith("durableq: Line 2: ")
    assert why in sent.err
    assert shop.bodies() == [0]


def test_a_key_field_gives_each_key(run: Run, shop: Shop, tmp_path: Path) -> None:
    values = ["a", 7, 1.5, 2**70]
    file = lines_file(tmp_path, *(json.dumps({"id": value}) for value in values))
    assert run("produce", file, "--queue", "orders", "--key-field", "id").code == 0
    keys = [message["key"] for message in run("peek", "--json").rows]
    assert keys == ["a", "7", "1.5", str(2**70)]


@pytest.mark.parametrize(
    "line", ['{"no": 1}', "[1]", '{"id": null}', '{"id": [1]}', '{"id": true}']
)
def test_a_line_without_its_key_is_bad(line: str, run: Run, shop: Shop, tmp_path: Path) -> None:
    sent = run("produce", lines_file(tmp_path, line), "--queue", "orders", "--key-field", "id")
    assert sent.code == 1
    assert "'id'" in sent.err
    assert shop.bodies() == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("FILE", "--envelope", "--key-field", "id"), "An envelope names its own key"),
        (("--envelope",), "are for a FILE"),
        (("--key-field", "id"), "are for a FILE"),
        (("FILE", "--count", "3"), "are for the demo, without a FILE"),
        (("FILE", "--batch-size", "0"), "--batch-size"),
        (("FILE", "--rate", "0"), "--rate"),
        (("--duplicates", "2"), "--duplicates"),
    ],
)
def test_options_that_contradict_are_a_usage_error(
    arguments: tuple[str, ...], why: str, run: Run, shop: Shop, tmp_path: Path
) -> None:
    file = str(lines_file(tmp_path, "1"))
    sent = run("produce", *(file if part == "FILE" else part for part in arguments))
    assert sent.code == 2
    assert why in sent.err
    assert shop.bodies() == []


def test_batches_are_commits(run: Run, shop: Shop, tmp_path: Path) -> None:
    file = lines_file(tmp_path, *map(str, range(25)))
    sent = run("produce", file, "--queue", "orders", "--batch-size", 10, "--json")
    assert sent.json == sent.json | {
        "queue": "orders", "sent": 25, "skipped": 0, "bad_line": None
    }  # fmt: skip
    assert sent.json["commits"] >= 3
    assert shop.bodies() == list(range(25))


def test_a_rate_is_kept(run: Run, shop: Shop, tmp_path: Path) -> None:
    file = lines_file(tmp_path, *map(str, range(11)))
    sent = run("produce", file, "--queue", "orders", "--rate", 50, "--json")
    assert sent.json["seconds"] >= 0.2
    assert shop.bodies() == list(range(11))


def test_a_message_that_the_queue_refuses_later_is_not_blamed_on_a_line(
    run: Run, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue's limit is lowered while the file is read."""
    file = lines_file(tmp_path, *map(str, range(10)), '"a longer body"', "99")
    send = SQLStore.send

    def shrinking(self: SQLStore, queue: str, drafts: Any) -> list[str]:
        ids = send(self, queue, drafts)
        shop.store.declare_queue("orders", {"max_body_bytes": 5})
        return ids

    monkeypatch.setattr(SQLStore, "send", shrinking)
    sent = run("produce", file, "--queue", "orders", "--batch-size", 10, "--skip-bad")
    assert sent.code == 5
    assert "A message could not be stored: The body has 15 bytes; queue 'orders'" in sent.err
    assert "11 messages were sent before it and stay sent." in sent.err
    assert shop.bodies() == [*range(10), 99]


def test_without_a_file_the_demo_sends_orders(run: Run, tmp_path: Path) -> None:
    sent = run("produce", "--count", 8, "--seed", 3, "--json")
    assert (sent.code, sent.json["queue"], sent.json["sent"]) == (0, "orders", 8)
    assert "seed 3" in sent.err
    again = run("produce", "--count", 8, "--seed", 3, "--db", "other.db")
    assert again.code == 0
    first, second = run("peek", "--json").rows, run("peek", "--json", "--db", "other.db").rows
    assert [(m["key"], m["body"]) for m in first] == [(m["key"], m["body"]) for m in second]


def test_without_a_file_a_queue_keeps_the_settings_it_has(run: Run, shop: Shop) -> None:
    before = shop.queue.info().settings
    assert run("produce", "--count", 3).code == 0
    assert shop.queue.info().settings == before


def test_standard_input_is_read(shop: Shop, tmp_path: Path) -> None:
    sent = forked("produce", "-", "--queue", "orders", cwd=tmp_path, stdin=b"[1]\n[2")
    assert sent.code == 1
    assert "Line 2: it is not JSON" in sent.err
    assert "1 message was sent before it and stays sent." in sent.err
    assert shop.bodies() == [[1]]


def test_a_slow_source_is_sent_as_it_comes_and_an_interrupt_is_quiet(
    shop: Shop, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [*COMMAND, "produce", "-", "--queue", "orders"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        child.stdin.write(b"1\n2\n3\n")
        child.stdin.flush()
        wait_for(lambda: len(shop.bodies()) == 3, seconds=30, what="three messages in the file")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=scaled(30))
    assert (child.returncode, out) == (130, b"")
    assert err == b"durableq: Interrupted. 3 messages were sent before it and stay sent.\n"


@pytest.mark.skipif(not STATUS.exists(), reason="the kernel does not tell a process's peak")
def test_a_large_file_and_a_large_line_take_constant_memory(tmp_path: Path, shop: Shop) -> None:
    file = tmp_path / "large.jsonl"
    with file.open("wb") as stream:
        for _ in range(600):
            stream.write(b'"' + os.urandom(25_000).hex().encode() + b'"\n')
        stream.write(b'"' + b"x" * 64 * MEBIBYTE + b'"\n1')
    program = (
        "import sys; from pathlib import Path; from durableq.cli import main;"
        f"code = main(sys.argv[1:]); print(Path({str(STATUS)!r}).read_text()); sys.exit(code)"
    )
    command = [COMMAND[0], "-c", program, "produce", str(file), "--queue", "orders", "--skip-bad"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, check=True
    )
    peak = next(line for line in ended.stdout.decode().splitlines() if line.startswith("VmHWM:"))
    assert int(peak.split()[1]) < 100_000, "kilobytes"
    assert shop.queue.info().counts.present == 601


def test_two_producers_make_one_missing_file_together(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [*COMMAND, "produce", "--count", "50"],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for child in children:
        _, err = child.communicate(timeout=scaled(60))
        assert child.returncode == 0, err
    shop = Shop(tmp_path / "durableq.db")
    assert shop.queue.info().counts.present == 100
    shop.dq.close()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")
def test_a_pipe_can_be_the_file(run: Run, shop: Shop) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"1\n2\n")
    os.close(writer)
    assert run("produce", f"/dev/fd/{reader}", "--queue", "orders").code == 0
    os.close(reader)
    assert shop.bodies() == [1, 2]


def test_lines_that_name_no_expiry_get_that_of_the_command(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    file = lines_file(tmp_path, '{"body": 1}', '{"body": 2, "expires_in": 9}')
    options = ("--queue", "orders", "--envelope", "--expires-in", "60")
    assert run("produce", file, *options).code == 0
    lives = [one["expires_at_ms"] - one["sent_at_ms"] for one in run("peek", "--json").rows]
    assert lives == [60_000, 9_000]

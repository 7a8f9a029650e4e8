"""Standard streams that are full or closed: lost data is an error, lost commentary is not."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.console import COMMAND, Shop, environment, warm
from tests.support import scaled

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
FULL = "2>/dev/full"
CLOSED = "2>&-"
LEFT = "2> >(true)"
STREAMS = pytest.mark.parametrize(
    "stderr", [pytest.param(FULL, marks=needs_full), CLOSED, LEFT], ids=["full", "closed", "left"]
)


def shell(
    line: str, cwd: Path, command: list[str] = COMMAND, **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `durableq` is the command; stderr is kept apart."""
    call = f'durableq() {{ {shlex.join(command)} "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", call],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=scaled(60),
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@STREAMS
def test_a_send_is_a_success_although_its_report_cannot_be_written(
    stderr: str, unbuffered: str, shop: Shop, tmp_path: Path
) -> None:
    line = f"echo '{{}}' | durableq produce - --queue orders {stderr}"
    command = warm() if unbuffered else COMMAND
    assert shell(line, tmp_path, command, PYTHONUNBUFFERED=unbuffered).returncode == 0
    assert shop.bodies() == [{}]


@STREAMS
def test_an_error_keeps_its_exit_code(stderr: str, shop: Shop, tmp_path: Path) -> None:
    for words, code in (("show 999", 3), ("--no-such", 2)):
        assert shell(f"durableq {words} {stderr}", tmp_path, warm()).returncode == code, words


@STREAMS
def test_a_fleet_works_although_nothing_can_be_logged(
    stderr: str, shop: Shop, tmp_path: Path
) -> None:
    shop.queue.send({"amount": 1})
    line = f"durableq work --drain --exec 'echo told >&2; true' --queue orders {stderr}"
    assert shell(line, tmp_path, warm()).returncode == 0
    assert shop.queue.info().counters.completed == 1


@needs_full
@pytest.mark.parametrize("words", ["status", "queue list --json", "--help", "show --help"])
def test_data_that_cannot_be_written_is_an_error(words: str, shop: Shop, tmp_path: Path) -> None:
    ended = shell(f"durableq {words} >/dev/full", tmp_path, warm())
    assert ended.returncode == 1
    assert b"No space left on device." in ended.stderr
    assert b"defect" not in ended.stderr
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.parametrize("words", ["queue list", "--help", "queue list --help", "--version", ""])
def test_a_reader_that_leaves_ends_every_command_with_141(
    words: str, shop: Shop, tmp_path: Path
) -> None:
    ended = shell(f"exec 3> >(exec true); wait $!; durableq {words} >&3", tmp_path, warm())
    said = ended.stderr.removeprefix(b"Database: durableq.db\n")
    assert (ended.returncode, said) == (141, b"")


@needs_full
def test_a_summary_of_a_send_that_cannot_be_written_is_an_error(shop: Shop, tmp_path: Path) -> None:
    line = "echo '{}' | durableq produce - --queue orders --json >/dev/full"
    ended = shell(line, tmp_path)
    assert ended.returncode == 1
    assert b"cannot be written" in ended.stderr
    assert ended.stderr.startswith(b"Sent 1 message to orders")
    assert shop.bodies() == [{}]


def test_a_closed_standard_input_is_not_an_empty_one(shop: Shop, tmp_path: Path) -> None:
    ended = shell("durableq produce - --queue orders <&-", tmp_path)
    assert ended.returncode == 1
    assert b"standard input is closed" in ended.stderr
    ended = shell("durableq queue delete orders <&-", tmp_path, warm())
    assert ended.returncode == 2
    assert b"confirm with --yes" in ended.stderr


@pytest.mark.parametrize("name", ["[/x].jsonl", "a[bold]b.jsonl", "red\x1b[31m.jsonl", "{x}.jsonl"])
def test_a_files_name_is_no_markup_beside_a_progress_bar(
    name: str, shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}\n")
    leader, follower = pty.openpty()
    ended = subprocess.Popen(
        [*warm(), "produce", name, "--queue", "orders"],
        cwd=tmp_path,
        env=environment(TERM="xterm", COLUMNS="200"),
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    seen = b""
    while chunk := read(leader):
        seen += chunk
    os.close(leader)
    assert ended.wait(scaled(60)) == 0, seen
    assert name.replace("\x1b", "\\e").encode() in seen
    assert b"\x1b[31m.jsonl" not in seen
    assert shop.bodies() == [{}]


def read(terminal: int) -> bytes:
    """Return the next output on a terminal; nothing once the other end is closed."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""

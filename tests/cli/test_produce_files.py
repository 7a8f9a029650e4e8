"""`produce` with files of other kinds, and queues that are not there yet."""

import gzip
import os
from pathlib import Path

import pytest

from tests.cli.console import Run, Shop, forked


def lines_file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_an_application_makes_the_queue_that_it_declares(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"shop_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "from durableq import DurableQ\n"
        "dq = DurableQ('own.db')\n"
        "dq.queue('orders', max_receives=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    lines = lines_file(tmp_path, "1")
    refused = run("produce", lines, "--queue", "other", "--app", f"{name}:dq")
    assert (refused.code, (tmp_path / "own.db").exists()) == (3, False)
    sent = run("produce", lines, "--queue", "orders", "--app", f"{name}:dq")
    assert (sent.code, sent.said[:26]) == (0, "Sent 1 message to orders i")
    # Each command finds the database of the application, also of one that the project names.
    (tmp_path / "pyproject.toml").write_text(f"[tool.durableq]\napp = '{name}:dq'\n")
    assert [each["body"] for each in run("peek", "--queue", "orders", "--json").rows] == [1]
    assert run("queue", "list", "--db", "durableq.db").code == 3


def test_a_file_packed_by_gzip_is_unpacked(run: Run, shop: Shop, tmp_path: Path) -> None:
    packed = gzip.compress(b"1\n2\n") + gzip.compress(b"3\n")
    file = tmp_path / "lines"  # its content says what it is, not its name
    file.write_bytes(packed)
    assert run("produce", file, "--queue", "orders").code == 0
    assert forked("produce", "-", "--queue", "orders", cwd=tmp_path, stdin=packed).code == 0
    assert shop.bodies() == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_gzip_file_ends_the_run_in_a_sentence(
    damage: str, run: Run, shop: Shop, tmp_path: Path
) -> None:
    lines = b"".join(b'"%d %s"\n' % (n, os.urandom(40).hex().encode()) for n in range(2_000))
    content = bytearray(gzip.compress(lines))
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[-6] ^= 1  # the checksum
    (tmp_path / "lines.gz").write_bytes(content)
    sent = run("produce", tmp_path / "lines.gz", "--queue", "orders")
    assert (sent.code, "lines.gz is damaged after line " in sent.err) == (1, True), sent.err
    stored = shop.queue.info().counts.ready
    assert stored > 0
    assert f"{stored:,} messages were sent before it and stay sent" in sent.err


def test_a_json_array_is_explained(run: Run, shop: Shop, tmp_path: Path) -> None:
    refused = run("produce", lines_file(tmp_path, "[", "1,", "2", "]"), "--queue", "orders")
    assert (refused.code, shop.bodies()) == (1, [])
    assert "If the file is one array, `jq -c '.[]'` makes lines of it." in refused.err
    sent = run("produce", lines_file(tmp_path, "[1, 2]"), "--queue", "orders")
    assert (sent.code, shop.bodies()) == (0, [[1, 2]])
    assert "jq -c '.[]' FILE | durableq produce - --queue orders" in sent.err

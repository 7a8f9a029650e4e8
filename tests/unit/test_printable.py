"""Output of workers: printable, in whole lines, limited in length."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durableq.runtime.logs import LogFormat, json_line
from durableq.runtime.printable import MAX_LINE_BYTES, MAX_RECORD_BYTES, RECORD, LineFilter

CHUNKS = st.lists(
    st.one_of(st.binary(max_size=12), st.sampled_from([b"\n", b"\x1b[2J", RECORD, b"\xff"]))
)


def shown(form: LogFormat, *chunks: bytes) -> bytes:
    lines = LineFilter("worker-1", form)
    return b"".join([*map(lines.feed, chunks), lines.rest()])


@example([b"\x1e", b"{"])
@given(CHUNKS)
def test_no_control_character_is_shown_in_any_split(chunks: list[bytes]) -> None:
    for form in LogFormat:
        whole = shown(form, b"".join(chunks))
        if form is LogFormat.TEXT:
            assert shown(form, *chunks) == whole
        assert all(line.isprintable() for line in whole.decode().split("\n"))
        assert not whole or whole.endswith(b"\n")
        for line in whole.splitlines() if form is LogFormat.JSON else ():
            assert json.loads(line)["process"] == "worker-1"


def test_a_record_of_the_workers_own_begins_a_line_and_is_shown_as_it_is() -> None:
    event = json_line("failed", "it failed", process="worker-1").encode()
    raw = b"half a line" + RECORD + event + b"\nthe rest\n"
    first, second, third = shown(LogFormat.JSON, raw).splitlines()
    assert [json.loads(each)["text"] for each in (first, third)] == ["half a line", "the rest"]
    assert second == event
    assert shown(LogFormat.TEXT, b"a" + RECORD + b"b\n\nc\n") == b"a\nb\n\nc\n"


@pytest.mark.parametrize(
    "forged", [RECORD + b"{\x1b}\n", RECORD + b"no JSON\n", RECORD + b"{\n", b'{"a": 1}\n']
)
def test_a_forged_record_becomes_an_event(forged: bytes) -> None:
    (line,) = shown(LogFormat.JSON, forged).splitlines()
    assert json.loads(line)["event"] == "printed"


def test_a_line_without_end_is_shown_in_pieces() -> None:
    lines = LineFilter("worker-1", LogFormat.TEXT)
    long = b"x" * (3 * MAX_LINE_BYTES + 5)
    assert lines.feed(long) == b"\n".join([long[:MAX_LINE_BYTES]] * 3 + [b""])
    assert lines.rest() == b"xxxxx\n"


def test_characters_outside_the_terminals_encoding_are_escaped() -> None:
    lines = LineFilter("worker-1", LogFormat.TEXT, "ascii")
    assert lines.feed("Müller\n".encode()) == b"M\\xfcller\n"


def test_a_record_that_is_cut_becomes_events() -> None:
    event = json_line("failed", "x" * MAX_RECORD_BYTES, process="worker-1").encode()
    lines = shown(LogFormat.JSON, RECORD + event, b"\n").splitlines()
    assert len(lines) == 2
    assert {json.loads(line)["event"] for line in lines} == {"printed"}

"""Tables: whole in a pipe, readable on any terminal."""

import io
import json
import re
import sys

import pytest

from durableq.cli import output
from tests.cli.console import Run, Shop

COLUMNS = ("FINGERPRINT", "COUNT", "ERROR", "EXAMPLE")
ROWS = [("5ac063f8b99b", 473, "Reject: too complex", "3169"), ("be4ad271814b", 6, "", "3192")]


def test_a_row_in_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(COLUMNS, [*ROWS, ("x" * 300, 1, "", "")])
    assert capsys.readouterr().out.splitlines()[-1] == "x" * 300 + "      1"
    output.table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "FINGERPRINT   COUNT  ERROR                EXAMPLE",
        "5ac063f8b99b    473  Reject: too complex  3169",
        "be4ad271814b      6                       3192",
    ]


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("columns", "parts"), [(200, 1), (80, 2)])
def test_a_table_can_be_read_on_a_narrow_terminal(
    columns: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    monkeypatch.setenv("COLUMNS", str(columns))
    heads = ["ID", *(f"HEADING_{number}" for number in range(8)), "WHY"]
    why = "the bank refused it, and gave this as its reason: a limit was reached today"
    output.table(heads, [("17", *range(8), why), ("18", *range(8), why)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines()
    shown = [line.split() for line in lines if line.startswith("ID")]
    assert len(shown) == parts
    assert [head for part in shown for head in part[1:]] == heads[1:], "each once, and whole"
    assert sum(line.startswith("17 ") for line in lines) == parts, "each part says whose it is"
    assert max(map(len, lines)) <= columns


def test_a_list_is_one_document_a_line(run: Run, shop: Shop) -> None:
    assert run("peek", "--json").out == ""
    shop.queue.send_many([*range(1_100)])
    lines = run("peek", "--limit", 10_000, "--json").lines
    assert [json.loads(line)["body"] for line in lines] == [*range(1_100)]
    assert {json.loads(line)["schema"] for line in lines} == {1}
    assert run("status", "--json").json["schema"] == 1


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (("show", "999"), "UnknownMessage", 3),
        (("peek", "--limit", "0"), "UsageError", 2),
        (("queue", "purge", "orders"), "UsageError", 2),  # there is no terminal to ask on
        (("queue", "delete", "orders", "--yes"), "Conflict", 5),
        (("nothing",), "UsageError", 2),
    ],
)
def test_an_error_is_a_document_too(
    words: tuple[str, ...], kind: str, code: int, run: Run, shop: Shop
) -> None:
    shop.queue.send(1)
    plain, found = run(*words), run(*words, "--json")
    assert (plain.code, found.code, found.out) == (code, code, "")
    document = json.loads(found.err)
    error = document["error"]
    assert (document["schema"], error["type"], error["exit_code"]) == (1, kind, code)
    assert plain.err == f"durableq: {error['message']}\n"

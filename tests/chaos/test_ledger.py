"""The ledgers: noted lines are read again, and the half line of a killed process is not."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from durableq import AppError
from durableq.testing.chaos.ledger import FOLDER_VARIABLE, NONE, Ledger, Step, answer, last, read


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    with closing(Ledger(tmp_path)) as ledger:
        ledger.note("send", Step.INVOKE, "k")
        ledger.note("charge", Step.INVOKE, "k", "7", "token", "1.2")
    return tmp_path / f"{os.getpid()}.ledger"


def test_noted_lines_are_read_in_order(noted: Path) -> None:
    sent, charged = read(noted.parent)
    assert sent.at_ns <= charged.at_ns
    assert sent[1:] == (os.getpid(), "send", "invoke", "k", NONE, NONE, NONE)
    assert charged[2:] == ("charge", "invoke", "k", "7", "token", "1.2")
    assert charged.order == (1, 2)


def test_a_line_that_was_cut_off_is_no_line(noted: Path) -> None:
    whole = read(noted.parent)
    with noted.open("a") as ledger:
        ledger.write("123 7 charge inv")
    assert read(noted.parent) == whole
    assert last(noted.parent, os.getpid()) == whole[-1]


def test_the_last_line_of_a_long_ledger_is_found(noted: Path) -> None:
    with closing(Ledger(noted.parent)) as ledger:
        for number in range(200):
            ledger.note("charge", Step.OK, f"order-{number}")
    found = last(noted.parent, os.getpid())
    assert found is not None
    assert found.key == "order-199"


def test_an_empty_or_missing_ledger_has_no_last_line(noted: Path) -> None:
    assert last(noted.parent, 1) is None
    (noted.parent / "1.ledger").touch()
    assert last(noted.parent, 1) is None


def test_an_answer_is_found_by_its_receipt(noted: Path) -> None:
    asked = read(noted.parent)[-1]
    assert answer(noted.parent, asked) is None
    with closing(Ledger(noted.parent)) as ledger:
        ledger.note("charge", Step.OK, "k", "7", "another", "1.3")
        assert answer(noted.parent, asked) is None
        ledger.note("charge", Step.REFUSED, "k", "7", "token", "1.2")
    answered = answer(noted.parent, asked)
    assert answered is not None
    assert answered.step == Step.REFUSED


def test_outside_a_run_there_is_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AppError, match=FOLDER_VARIABLE):
        Ledger.of_this_run()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with closing(Ledger.of_this_run()) as ledger:
        ledger.note("send", Step.INVOKE)
    assert len(read(tmp_path)) == 1

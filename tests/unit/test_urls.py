"""Names of databases: the file that is meant, or a sentence with the right form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, InvalidInput
from durableq.client.app import file_named

REFUSED: tuple[tuple[Any, str], ...] = (
    ("", "names no file. Write name.db"),
    ("sqlite:///a#b.db", "Write %23"),
    ("sqlite:///a.db?synchronous=full#b", "Write %23"),
    (":memory:", "Write memory://"),
    ("sqlite:///:memory:", "Write memory://"),
    ("file::memory:?cache=shared", "Write sqlite:///"),
    ("sqlite:x.db", "Write sqlite:///name.db (three slashes)"),
    ("sqlite:/x.db", "three slashes"),
    ("SQLite3:x.db", "three slashes"),
    ("memory:", "memory://"),
    ("file:x.db", "three slashes"),
    ("sqlite://x.db", "sqlite:///x.db"),
    ("sqlite://[x]/y.db", "sqlite:///[x]/y.db"),
    ("sqlite://[", "sqlite:///["),
    ("sqlite://", "three slashes"),
    ("sqlite:///", "names no file"),
    ("sqlite:///?synchronous=full", "names no file"),
    ("sqlite://?x=1", "three slashes"),
    ("x.db\n", "Remove it"),
    (" x.db", "Remove it"),
    ("x\x1b.db", "Remove it"),
    ("sqlite:///x.db%0A", "Remove it"),
    ("sqlite:///x%00.db", "Remove it"),
    ("sqlite:///100%.db", "Write %25"),
    ("sqlite:///a%zz.db", "Write %25"),
    ("x.db?synchronous=normal", "Write sqlite:///x.db?synchronous=normal"),
    ("/", "is a directory"),
    ("data/", "is a directory"),
    (".", "is a directory"),
    ("sqlite:////", "is a directory"),
    ("sqlite:///x.db?", "has no value"),
    ("sqlite:///x.db?synchronous", "Write synchronous=VALUE"),
    ("sqlite:///x.db?synchronous=", "Write synchronous=VALUE"),
    ("sqlite:///x.db?synchronous=normal&", "has no value"),
    ("sqlite:///x.db?synchronus=normal", "Did you mean 'synchronous'"),
    ("sqlite:///x.db?synchronus=", "Did you mean 'synchronous'"),
    ("sqlite:///x.db?busy_timeout=1&busy_timeout=2", "given twice"),
    ("sqlite:///x.db?busy_timeout=nan", "number of seconds"),
    ("sqlite:///x.db?synchronous=off", "synchronous=full|normal"),
    ("memory://?synchronous=full", "no options"),
    ("memory://a/b", "no path"),
    ("redis://x", "No engine serves redis://"),
    ("redis" * 1_000_000 + "://x", "No engine serves"),
    ("sqlite:///x.db?" + "x" * 1_000_000, "Unknown database option"),
    ("\ud800", "cannot be a path"),
    (b"x.db", "as text"),
    (5, "as text"),
    (Path("x?y.db"), "Write sqlite:///x?y.db; for a file of that name, sqlite:///x%3Fy.db"),
)


@pytest.mark.parametrize(("url", "says"), REFUSED, ids=range(len(REFUSED)))
def test_an_ambiguous_name_is_refused_and_makes_no_file(
    url: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput) as refused:
        DurableQ(url).init()
    said = str(refused.value)
    assert says in said
    assert len(said) < 400
    assert said.isprintable()
    if isinstance(url, str) and url and "\0" not in url and "\ud800" not in url:
        with pytest.raises(InvalidInput):
            DurableQ("memory://").use(url)
        if len(url) < 1_000:
            monkeypatch.setenv("DURABLEQ_DB", url)
            with pytest.raises(InvalidInput) as refused:
                _ = DurableQ().store
            assert refused.value.__notes__ == ["It stands in the environment's DURABLEQ_DB."]
    assert list(tmp_path.iterdir()) == []


PLAIN = (
    ("x.db", "x.db"),
    ("a#b.db", "a#b.db"),
    ("10:30.db", "10:30.db"),
    ("~x.db", "~x.db"),
    ("./sqlite:x.db", "sqlite:x.db"),
    ("sqlite:///x.db", "x.db"),
    ("sqlite:///x.db?synchronous=NORMAL&busy_timeout=1.5", "x.db"),
    ("sqlite:///a%23b%3F%25%20.db", "a#b?% .db"),
    ("sqlite:///./x.db", "x.db"),
)


@pytest.mark.parametrize(("url", "name"), PLAIN, ids=range(len(PLAIN)))
def test_a_plain_name_makes_the_file_that_it_names(
    url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with DurableQ(url) as dq:
        dq.queue("q").send(1)
        assert name in os.listdir(tmp_path)
    assert file_named(url) == Path(name)


def test_a_home_directory_is_looked_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert file_named("~/x.db") == file_named("sqlite:///~/x.db") == tmp_path / "x.db"
    assert file_named("memory://x") is None
    with pytest.raises(InvalidInput, match="cannot be a path"):
        file_named("~no-such-user-here/x.db")

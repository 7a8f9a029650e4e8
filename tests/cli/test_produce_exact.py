"""Values that `produce` keeps exactly: a value that would change makes its line bad."""

from pathlib import Path
from typing import Any

import pytest

from tests.cli.console import Run, Shop
from tests.engine import plain


def stored(shop: Shop) -> list[Any]:
    return plain.column(shop.path, "SELECT body FROM durableq_message ORDER BY id")


KEPT = (
    ("1.10", 1.1),
    ("1E3", 1000.0),
    ("12345678901234567890123", 12345678901234567890123),
    ("0.1", 0.1),
    ("-0", -0.0),
    ("-0.0", -0.0),
    ("0e99999999999999999999999", 0.0),
    ("5e-324", 5e-324),
    ("1.7976931348623157e308", 1.7976931348623157e308),
    ("9007199254740993", 9007199254740993),
    ("123456789.12345678", 123456789.12345678),
)
CHANGED = (
    ("1234567890123456.789", "would become 1234567890123456.8"),
    ("0.1000000000000000055511151231257827", "would become 0.1:"),
    ("9007199254740993.0", "would become 9007199254740992.0"),
    ("1E400", "would become inf"),
    ("-1E400", "would become -inf"),
    ("1e-400", "would become 0.0"),
    ("1e99999999999999999999999", "would become inf"),
    ("1e-99999999999999999999999", "would become 0.0"),
    ("0." + "1" * 1_000_000, "would become 0.1111111111111111:"),
    ("NaN", "is not a JSON number"),
)


@pytest.mark.parametrize(("text", "value"), KEPT)
def test_a_number_keeps_its_value(
    text: str, value: float, run: Run, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text(f'{{"n": [{text}]}}')
    assert run("produce", tmp_path / "in", "--queue", "orders").code == 0
    [body] = shop.bodies()
    assert repr(body["n"]) == repr([value])


@pytest.mark.parametrize(("text", "says"), CHANGED, ids=range(len(CHANGED)))
def test_a_number_that_would_become_another_makes_the_line_bad(
    text: str, says: str, run: Run, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text(f'1\n{{"n": [{text}]}}')
    sent = run("produce", tmp_path / "in", "--queue", "orders")
    assert sent.code == 1
    assert "Line 2: " in sent.err
    assert says in sent.err
    assert len(sent.err) < 400
    assert shop.bodies() == [1]


@pytest.mark.parametrize("line", ['{"sku": 1, "sku": 2}', '[{"a": {"sku": 1, "b": 0, "sku": 1}}]'])
def test_a_name_given_twice_makes_the_line_bad(
    line: str, run: Run, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text(line)
    sent = run("produce", tmp_path / "in", "--queue", "orders")
    assert "Line 1: an object has the name 'sku' twice" in sent.err
    assert shop.bodies() == []
    twice = '{"body": 1, "body": 2}'
    (tmp_path / "in").write_text(twice)
    sent = run("produce", tmp_path / "in", "--queue", "orders", "--envelope")
    assert "the name 'body' twice" in sent.err
    assert shop.bodies() == []


def test_raw_lines_are_sent_unchanged(run: Run, shop: Shop, tmp_path: Path) -> None:
    lines = [
        b'{"amount": 1234567890123456.789, "v":1.10}\r',
        b'{ "sku":"A" }  ',
        b"caf\xe9 \x00",
        b"no JSON",
    ]
    (tmp_path / "in").write_bytes(b"\n".join(lines) + b"\n\n")
    assert run("produce", tmp_path / "in", "--queue", "orders", "--raw").code == 0
    assert stored(shop) == lines


def test_raw_lines_take_their_keys_from_a_field(run: Run, shop: Shop, tmp_path: Path) -> None:
    lines = [b'{"id": 7, "amount": 1234567890123456.789}', b'{"id": 1.10}']
    (tmp_path / "in").write_bytes(b"\n".join(lines))
    options = ("--queue", "orders", "--raw", "--key-field", "id")
    assert run("produce", tmp_path / "in", *options).code == 0
    assert stored(shop) == lines
    assert [message["key"] for message in run("peek", "--json").rows] == ["7", "1.1"]
    for bad in ('{"id": 1234567890123456.789}', '{"id": 1, "id": 2}', "no JSON"):
        (tmp_path / "in").write_text(bad)
        assert run("produce", tmp_path / "in", *options).code == 1
    assert run("produce", tmp_path / "in", "--queue", "orders", "--raw", "--envelope").code == 2
    assert run("produce", "--raw").code == 2


def test_a_key_of_megabytes_is_not_repeated(run: Run, shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(f'{{"id":"{"k" * 1_000_000}"}}\n' * 20)
    options = ("--queue", "orders", "--key-field", "id", "--skip-bad")
    sent = run("produce", tmp_path / "in", *options)
    assert sent.err.count("(1,000,000 characters)") == 20
    assert len(sent.err) < 20 * 300
    assert shop.bodies() == []

"""`show` of bodies that are long, or bytes."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.console import COMMAND, Run, Shop, environment, forked
from tests.support import scaled


def test_a_very_long_body_is_folded_and_its_bytes_can_be_had(shop: Shop, tmp_path: Path) -> None:
    text = '{"a":"' + "x" * 3_000 + '"}'
    long, binary = shop.queue.send({"a": "x" * 3_000}), shop.queue.send(b"\x00\xff\n" * 40)

    def shown(*words: str) -> str:
        ended = forked("show", *words, cwd=tmp_path)
        assert ended.code == 0, ended.err
        return ended.out

    folded = shown(long)
    assert text[:1_000] in folded
    assert text[:1_001] not in folded
    assert f"(2,008 more characters: durableq show {long} --body)" in folded
    assert text in shown(long, "--body")
    assert repr(b"\x00\xff\n" * 40) in shown(binary, "--body")
    assert shown(long, "--raw") == text
    with subprocess.Popen(
        [*COMMAND, "show", binary, "--raw"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
    ) as child:
        assert child.communicate(timeout=scaled(60))[0] == b"\x00\xff\n" * 40


@pytest.mark.parametrize("words", [("--raw", "--json"), ("--raw", "--body")])
def test_raw_is_the_body_alone(words: tuple[str, ...], run: Run, shop: Shop) -> None:
    message_id = shop.complete()
    assert run("show", message_id, *words).code == 2
    assert run("show", message_id, "--raw").code == 3  # it has ended

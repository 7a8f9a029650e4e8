"""The README works as written: its code runs, its sessions run, its diagram is today's."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from durableq import DurableQ
from scripts import draw_diagram

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def commands(session: str) -> list[str]:
    block = re.search(
        rf"<!-- session: {re.escape(session)} -->\n```console\n(.*?)```", README, re.DOTALL
    )
    assert block is not None, f"no session {session!r} in the README"
    return [line[2:] for line in block[1].splitlines() if line.startswith("$ ")]


def shell(script: list[str], folder: Path) -> None:
    bin_folder = Path(sys.executable).parent
    environment = {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-euc", "\n".join(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_diagram_is_drawn_from_todays_edges() -> None:
    for page in draw_diagram.PAGES:
        text = page.read_text()
        assert "```mermaid" in text
        assert draw_diagram.drawn(text) == text, "run: python scripts/draw_diagram.py"


def test_the_session_with_real_records_works_and_a_second_run_adds_nothing(tmp_path: Path) -> None:
    assert importlib.util.find_spec("pycountry"), "pycountry is among the development packages"
    (tmp_path / "places.py").write_text(python_blocks()[0])
    real = [line for line in commands("real records") if not line.startswith("pip install")]
    shell(real + commands("own handler"), tmp_path)
    records = (tmp_path / "places.jsonl").read_text().count("\n")
    assert records >= 3000
    assert places(tmp_path) == (records, records)
    shell(["export DURABLEQ_DB=places.db", *commands("again")], tmp_path)
    assert places(tmp_path) == (records, records)
    with DurableQ(tmp_path / "places.db") as dq:
        totals = dq.queue("places").info().totals
    assert (totals.completed, totals.duplicates) == (records, records)


def places(folder: Path) -> tuple[int, int]:
    with DurableQ(folder / "places.db") as dq, dq.engine.begin() as connection:
        counted = connection.exec_driver_sql("SELECT count(*), count(DISTINCT code) FROM place")
        rows, codes = counted.one()
    return rows, codes


def test_the_python_example_runs_and_its_messages_are_handled(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(python_blocks()[1])
    work = "durableq work --procs 2 --app shop:dq --drain"
    shell(["python shop.py", work, "durableq recover --app shop:dq --once"], tmp_path)
    with DurableQ(tmp_path / "shop.db") as dq:
        totals = dq.queue("receipts").info().totals
        with dq.engine.begin() as connection:
            charged = connection.exec_driver_sql("SELECT count(*), sum(amount) FROM ledger").one()
    assert tuple(charged) == (101, 120 + 100 * 5)
    assert (totals.sent, totals.completed) == (101, 101)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"

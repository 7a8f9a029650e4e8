"""The command `durableq dashboard`, as a process."""

import signal
import socket
from pathlib import Path
from urllib.request import urlopen

import pytest

from durableq import DurableQ
from tests.cli.console import process
from tests.dashboard.serving import serving
from tests.support import new_file, scaled


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = new_file(tmp_path / "shop.db")
    with DurableQ(path) as dq:
        dq.queue("orders")
        _ = dq.store
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(db: Path, number: signal.Signals) -> None:
    with serving(db) as (url, run):
        with urlopen(url, timeout=scaled(20)) as answer:
            assert b"orders" in answer.read()
        run.send_signal(number)
        _, says = run.communicate(timeout=scaled(20))
    assert run.returncode == 0
    assert says == f"The dashboard of {db}. Ctrl-C ends it.\n"


def test_it_is_not_open_to_others_by_mistake(db: Path, tmp_path: Path) -> None:
    refused = process("dashboard", "--db", db, "--host", "0.0.0.0", cwd=tmp_path)
    assert (refused.code, refused.out) == (2, "")
    assert "Give --token-file FILE or --trust-header NAME" in refused.err


def test_a_used_port_is_a_sentence(db: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        refused = process("dashboard", "--db", db, "--port", port, cwd=tmp_path)
    assert refused.code == 5
    assert f"cannot listen at 127.0.0.1 port {port}: Address already in use" in refused.err


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    refused = process("dashboard", "--db", tmp_path / "no.db", cwd=tmp_path)
    assert (refused.code, (tmp_path / "no.db").exists()) == (3, False)

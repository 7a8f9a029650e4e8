"""The command `durableq dashboard`, as a process."""

import signal
import socket
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

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
    assert f"cannot listen at 127.0.0.1 port {port}: Address already in use. Choose" in refused.err


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    refused = process("dashboard", "--db", tmp_path / "no.db", cwd=tmp_path)
    assert (refused.code, (tmp_path / "no.db").exists()) == (3, False)


def test_backups_have_a_folder_or_are_refused(db: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    refused = process("dashboard", "--db", db, "--port", "0", "--backup-dir", missing, cwd=tmp_path)
    assert refused.code == 2
    assert f"{missing} is no folder for backups" in refused.err
    both = ("--read-only", "--backup-dir", str(tmp_path))
    refused = process("dashboard", "--db", db, "--port", "0", *both, cwd=tmp_path)
    assert refused.code == 2
    assert "--read-only makes no backups" in refused.err


def test_the_log_says_who_did_it(db: Path) -> None:
    jar = CookieJar()
    browser = build_opener(HTTPCookieProcessor(jar))
    with serving(db) as (url, run):
        browser.open(url, timeout=scaled(20)).close()
        (token,) = [str(each.value) for each in jar if each.name == "durableq_form"]
        fields = urlencode({"form_token": token}).encode()
        action = Request(f"{url}queues/orders/pause", fields, {"Origin": url.rstrip("/")})
        with browser.open(action, timeout=scaled(20)) as answer:
            assert b"orders is paused" in answer.read()
        run.send_signal(signal.SIGTERM)
        _, says = run.communicate(timeout=scaled(20))
    assert " INFO dashboard: dashboard: orders is paused: nothing is received" in says

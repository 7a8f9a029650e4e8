"""The command `durableq serve`, as a process."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.serve.server import VARIABLES
from tests.cli.console import COMMAND, environment, process, run_process
from tests.serve.endpoint import ask, serving
from tests.support import new_file, scaled


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    db = tmp_path / "made.db"
    with serving(db) as (port, run):
        health = ask(port, "/health")
        assert (health.status, json.loads(health.body)) == (200, {"status": "ok"})
        run.send_signal(number)
        _, says = run.communicate(timeout=scaled(30))
    assert run.returncode == 0
    assert says.splitlines() == [
        f"The SQS endpoint of {db}. Ctrl-C ends it.",
        *(f"export {variable}=http://127.0.0.1:{port}" for variable in VARIABLES),
    ]


def test_the_json_has_the_url_and_the_database(tmp_path: Path) -> None:
    db = tmp_path / "made.db"
    command = [*COMMAND, "serve", "--db", str(db), "--port", "0", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment()) as run:
        assert run.stderr is not None
        assert "The SQS endpoint of" in run.stderr.readline()
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=scaled(30))
    shown = json.loads(said)
    assert (shown["schema"], shown["database"]) == (1, str(db))
    assert shown["url"].startswith("http://127.0.0.1:")


def test_it_serves_a_database_of_postgresql(postgres_tables_url: str) -> None:
    with DurableQ(postgres_tables_url) as dq:
        one = dq.queue("orders").send({"order": 7})
    with serving(postgres_tables_url) as (port, run):
        assert ask(port, "/health").status == 200
        shown = json.loads(ask(port, "/_durableq/peek?queue=orders").body)
        assert [each["id"] for each in shown["messages"]] == [one]
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=scaled(30))
    assert run.returncode == 0


@pytest.mark.parametrize("missing", ["httptools", "uvicorn"])
def test_the_extra_is_named_where_it_is_missing(missing: str, tmp_path: Path) -> None:
    # In a process of its own: modules that were imported without it would stay for other tests.
    code = f"import sys; sys.modules[{missing!r}] = None; from durableq.cli import main; "
    code += "sys.exit(main())"
    words = ("serve", "--db", "q.db", "--port", 0)
    ran = run_process([sys.executable, "-c", code], *words, cwd=tmp_path, stdin=b"")
    assert (ran.code, ran.out) == (1, "")
    assert "Install them: pip install 'durableq[serve]'." in ran.err
    assert not (tmp_path / "q.db").exists()


def test_it_is_not_open_to_others_by_mistake(tmp_path: Path) -> None:
    refused = process("serve", "--db", tmp_path / "q.db", "--host", "0.0.0.0", cwd=tmp_path)
    assert (refused.code, refused.out) == (2, "")
    assert "could read and purge them. Give --token-file FILE or --trust-header" in refused.err
    assert not (tmp_path / "q.db").exists()


def test_the_keys_are_a_key_and_a_secret_in_each_line(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# none\nAKIDEXAMPLE\n")
    refused = process("serve", "--db", tmp_path / "q.db", "--keys-file", keys, cwd=tmp_path)
    assert (refused.code, "write the access key and its secret" in refused.err) == (2, True)


def test_messages_are_looked_at_without_a_receive(tmp_path: Path) -> None:
    db = new_file(tmp_path / "shop.db")
    with DurableQ(db) as dq:
        one = dq.queue("orders").send({"order": 7})
    with serving(db) as (port, _):
        shown = json.loads(ask(port, "/_durableq/peek?queue=orders&limit=5").body)
        assert [each["id"] for each in shown["messages"]] == [one]
        assert shown["messages"][0]["body"] == {"order": 7}
        for path, status in (
            ("/_durableq/peek", 400),
            ("/_durableq/peek?queue=none", 404),
            ("/_durableq/peek?queue=orders&limit=0", 400),
            ("/_durableq/peek?queue=orders&after=x", 400),
            ("/_durableq/peek?queue=orders&states=all", 400),
        ):
            refused = ask(port, path)
            assert refused.status == status, path
            assert json.loads(refused.body)["error"]["message"]

"""docs/SQS.md works as written: its shell and Python run. tests/foreign runs other blocks."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from tests.chaos.served_client import Endpoint, is_healthy
from tests.cli.console import forked
from tests.support import wait_for

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "SQS.md").read_text()
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
CLIENTS = ["boto3", "The AWS CLI", "Celery and kombu", "dramatiq", "JavaScript"]
CLIENTS += ["Java and Spring", "Shoryuken", "Terraform"]


def block(name: str, language: str = "python") -> str:
    found = re.search(rf"<!-- {re.escape(name)} -->\n```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    endpoint = Endpoint(str(tmp_path / "shop.db"), tmp_path / "server.log")
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that the page sets, except the endpoint."""
    for word in shlex.split(block("environment", "sh")):
        name, _, value = word.partition("=")
        if name not in {"export", "AWS_ENDPOINT_URL_SQS"}:
            monkeypatch.setenv(name, value)


def run(text: str, port: int) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text.replace("localhost:4566", f"localhost:{port}"), "SQS.md", "exec"), names)
    return names


@pytest.mark.parametrize("page", ["README.md", "docs/SQS.md", "docs/DYNAMODB.md"])
def test_a_page_sets_the_region_for_all_sdks(page: str) -> None:
    """Python reads one of the two variables, the other SDKs the other one."""
    text = (ROOT / page).read_text()
    regions = [re.findall(rf"\b{name}[=:] ?([\w-]+)", text) for name in REGIONS]
    assert regions[0] == regions[1] != []


def test_each_client_has_a_section() -> None:
    assert re.findall(r"^### (.*)$", PAGE.partition("## In place")[0], re.MULTILINE) == CLIENTS


def test_the_table_links_sections() -> None:
    titles = re.findall(r"^###? (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert {*re.findall(r"\]\(#([^)]*)\)", PAGE)} <= anchors


def test_the_command_serves_at_the_port_of_the_page(tmp_path: Path) -> None:
    install, serve = block("start", "sh").splitlines()
    assert install == "pip install 'durableq[serve]'"
    arguments = shlex.split(serve.removeprefix("durableq "))
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", 4566))
        except OSError:
            pytest.skip("another process listens at port 4566")
    with subprocess.Popen(
        [sys.executable, "-m", "durableq", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "http://127.0.0.1:4566"
        wait_for(lambda: is_healthy(4566), seconds=60, what="an answer")
        server.terminate()
        assert server.wait(60) == 0


def test_boto3_sends_and_receives(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    run(block("boto3"), endpoint.port)
    assert capsys.readouterr().out == '{"order": 1}\n'


def test_a_handler_in_python_takes_the_message_of_a_client(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    code = block("boto3").partition("[message]")[0]
    run(code, endpoint.port)
    (tmp_path / "shop.py").write_text(block("handler"))
    worked = forked("work", "--app", "shop:dq", "--drain", cwd=tmp_path)
    assert "order 1" in worked.out + worked.err


def test_a_look_over_http_leaves_the_message(endpoint: Endpoint) -> None:
    run(block("boto3").partition("[message]")[0], endpoint.port)
    command = shlex.split(
        block("peek", "sh").replace("localhost:4566", f"localhost:{endpoint.port}")
    )
    seen = subprocess.run([*command, "--silent"], capture_output=True, check=True, timeout=60)
    [message] = json.loads(seen.stdout)["messages"]
    assert message["body"] == {"order": 1}


def test_messages_move_to_another_endpoint(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aws").mkdir()
    aws = Endpoint(str(tmp_path / "aws" / "shop.db"), tmp_path / "aws.log")
    aws.start()
    try:
        run(block("boto3").partition("[message]")[0], endpoint.port)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", f"http://localhost:{aws.port}")
        names = run(block("boto3").partition("sqs.send")[0], aws.port)
        run(block("move"), endpoint.port)
        [message] = names["sqs"].receive_message(QueueUrl=names["url"])["Messages"]
        assert message["Body"] == '{"order": 1}'
    finally:
        aws.stop()
    with DurableQ(tmp_path / "shop.db") as dq:
        assert dq.queue("orders").info().counts.present == 0


def test_the_examples_name_the_image_and_options_that_exist(tmp_path: Path) -> None:
    compose = block("compose", "yaml")
    assert "serve" in (ROOT / "Dockerfile").read_text().partition("RUN /opt/durableq/bin/pip")[2]
    for option in re.findall(r'"(--[a-z-]+)"', compose):
        assert option in forked("serve", "--help", cwd=tmp_path).out

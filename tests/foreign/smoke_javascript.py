"""The SDKs for JavaScript, which check digests, sqs-consumer, and Powertools for TypeScript."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.foreign.smoke import ENDPOINT, ENVIRONMENT, client, new_name, wait_for
from tests.foreign.smoke_docs import block

PROGRAMS = Path(os.environ.get("FOREIGN_JAVASCRIPT", ""))
HERE = Path(__file__).with_name("javascript")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder from which the packages can be imported."""
    if not os.environ.get("FOREIGN_JAVASCRIPT"):
        pytest.skip("Node.js 20 or newer is not here")
    (tmp_path / "node_modules").symlink_to(PROGRAMS / "node_modules")
    for program in HERE.glob("*.?js"):
        shutil.copy(program, tmp_path)
    return tmp_path


def succeeds(folder: Path, *words: str) -> None:
    ran = subprocess.run(
        ["node", *words],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "ok\n"), ran.stderr


def test_the_sdk_and_sqs_consumer_agree_with_the_endpoint(folder: Path) -> None:
    succeeds(folder, "smoke.mjs", new_name("javascript"))


def test_an_sdk_of_the_query_protocol_agrees_with_the_endpoint(folder: Path) -> None:
    succeeds(folder, "query.cjs", ENDPOINT, new_name("query"))


def test_powertools_for_typescript_runs_a_function_once(folder: Path) -> None:
    name, code = "tableName: 'idempotency'", block("typescript", "typescript", "DYNAMODB.md")
    assert code.count(name) == 1
    (folder / "layer.mjs").write_text(
        "import { DynamoDBPersistenceLayer } from '@aws-lambda-powertools/idempotency/dynamodb';\n"
        "export function layer(tableName) {\n"
        f"{code.replace(name, 'tableName')}"
        "return persistenceStore;\n}\n"
    )
    succeeds(folder, "powertools.mjs", new_name("powertools"))


def test_the_consumer_of_the_page_prints_the_body(folder: Path) -> None:
    code, name = block("javascript", "javascript"), new_name("javascript")
    assert code.count("/orders") == 1
    (folder / "consumer.mjs").write_text(re.sub("/orders", f"/{name}", code))
    sqs = client()
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="hello")
    log = folder / "log"
    with log.open("wb") as output:
        environment = {**os.environ, **ENVIRONMENT}
        consumer = subprocess.Popen(
            ["node", "consumer.mjs"], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: "hello" in log.read_text().splitlines())
        wait_for(
            lambda: (
                sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"][
                    "ApproximateNumberOfMessagesNotVisible"
                ]
                == "0"
            )
        )
        assert "Messages" not in sqs.receive_message(QueueUrl=url)
    finally:
        print(log.read_text())
        consumer.kill()
        consumer.wait(60)

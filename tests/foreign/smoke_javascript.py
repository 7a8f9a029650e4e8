"""The SDK for JavaScript, which checks digests, and sqs-consumer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.foreign.smoke import ENVIRONMENT, client, new_name, wait_for
from tests.foreign.smoke_docs import block

PROGRAMS = Path(os.environ.get("FOREIGN_JAVASCRIPT", ""))
HERE = Path(__file__).with_name("javascript")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder from which the packages can be imported."""
    if not os.environ.get("FOREIGN_JAVASCRIPT"):
        pytest.skip("Node.js 20 or newer is not here")
    (tmp_path / "node_modules").symlink_to(PROGRAMS / "node_modules")
    shutil.copy(HERE / "smoke.mjs", tmp_path)
    return tmp_path


def test_the_sdk_and_sqs_consumer_agree_with_the_endpoint(folder: Path) -> None:
    ran = subprocess.run(
        ["node", "smoke.mjs", new_name("javascript")],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "ok\n"), ran.stderr


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

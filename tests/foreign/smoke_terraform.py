"""Terraform makes queues, sees no difference afterwards, changes them and deletes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.foreign.smoke import ACCOUNT, client, new_name
from tests.foreign.smoke_docs import block

CONFIGURATION: Final = Path(__file__).with_name("terraform") / "queues.tf"
PROVIDER: Final = "registry.terraform.io/hashicorp/aws"
ARN: Final = f"arn:aws:sqs:us-east-1:{ACCOUNT}:"
MIRROR: Final = """provider_installation {{
  filesystem_mirror {{ path = {path} }}
}}
"""


class Terraform:
    """Commands of Terraform in a folder.

    Args:
        folder: has the configuration.
        prefix: of the names of all queues.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self.prefix = prefix
        self._folder = folder
        self._environment = {
            **os.environ,
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            "TF_VAR_prefix": prefix,
        }
        # An image without a network may have the provider in a folder of /opt. Otherwise it comes
        # from where this machine's Terraform gets it.
        for found in Path("/opt").glob(f"*/{PROVIDER}"):
            mirror = folder / "mirror.tfrc"
            mirror.write_text(MIRROR.format(path=json.dumps(str(found.parents[2]))))
            self._environment["TF_CLI_CONFIG_FILE"] = str(mirror)

    def run(self, command: str, *options: str, **variables: object) -> tuple[int, str]:
        """Run a command; return its exit code and its output."""
        ran = subprocess.run(
            ["terraform", command, "-no-color", *options],
            cwd=self._folder,
            env={**self._environment, **{f"TF_VAR_{k}": str(v) for k, v in variables.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return ran.returncode, ran.stdout

    def apply(self, **variables: object) -> None:
        """Apply the configuration; a plan sees no difference afterwards."""
        code, output = self.run("apply", "-auto-approve", **variables)
        assert code == 0, output
        code, output = self.run("plan", "-detailed-exitcode", **variables)
        assert code == 0, output


@pytest.fixture
def terraform(tmp_path: Path) -> Terraform:
    """Return Terraform with the block of the page and the configuration of the tests."""
    if shutil.which("terraform") is None:
        pytest.skip("Terraform is not here")
    prefix, page = new_name("terraform"), block("terraform", "hcl")
    page, changed = re.subn(r'( name += )"', rf'\1"{prefix}-', page)
    assert changed == 2
    (tmp_path / "page.tf").write_text(page)
    shutil.copy(CONFIGURATION, tmp_path)
    terraform = Terraform(tmp_path, prefix)
    code, output = terraform.run("init")
    if code:
        pytest.skip(f"Terraform's provider for AWS is not here: {output.strip()[-200:]}")
    return terraform


def attributes(name: str) -> dict[str, Any]:
    """Return the attributes of a queue, and its tags."""
    sqs = client()
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return {**found, "tags": sqs.list_queue_tags(QueueUrl=url).get("Tags", {})}


# The provider looks at the attributes six times, at intervals of 5 seconds, until it believes them.
@pytest.mark.timeout(600)
def test_queues_are_made_changed_and_deleted(terraform: Terraform) -> None:
    terraform.apply()
    prefix = terraform.prefix
    orders = attributes(f"{prefix}-orders")
    policy = {"deadLetterTargetArn": f"{ARN}{prefix}-orders-dead", "maxReceiveCount": 5}
    assert json.loads(orders["RedrivePolicy"]) == policy
    full = attributes(f"{prefix}-full")
    assert (
        full
        | {
            "VisibilityTimeout": "45",
            "DelaySeconds": "3",
            "MaximumMessageSize": "2048",
            "MessageRetentionPeriod": "86400",
            "ReceiveMessageWaitTimeSeconds": "10",
            "tags": {"stage": "test", "with space": "é=1"},
        }
        == full
    )
    assert json.loads(full["Policy"])["Statement"][0]["Action"] == "sqs:SendMessage"
    assert json.loads(full["RedriveAllowPolicy"]) == {"redrivePermission": "denyAll"}
    steps = attributes(f"{prefix}-steps.fifo")
    assert (
        steps
        | {
            "ContentBasedDeduplication": "true",
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
        }
        == steps
    )

    terraform.apply(seconds=60, stage="live", scope="queue", limit="perQueue")
    full = attributes(f"{prefix}-full")
    assert (full["VisibilityTimeout"], full["tags"]["stage"]) == ("60", "live")
    assert attributes(f"{prefix}-steps.fifo")["DeduplicationScope"] == "queue"

    code, output = terraform.run("destroy", "-auto-approve")
    assert code == 0, output
    assert "QueueUrls" not in client().list_queues(QueueNamePrefix=prefix)

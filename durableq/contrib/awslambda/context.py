"""The context of an invocation, and the environment of a function, as AWS Lambda gives them."""

from __future__ import annotations

import os
import platform
import sys
import time
import uuid
from types import SimpleNamespace
from typing import Final

from durableq.contrib.awslambda.records import ACCOUNT

#: What AWS gives a function that says nothing else.
DEFAULT_TIMEOUT_MS: Final = 3_000
DEFAULT_REGION: Final = "us-east-1"
DEFAULT_MEMORY_MB: Final = 128
VERSION: Final = "$LATEST"


def set_environment(function: str) -> None:
    """Set the environment variables of a function that are not set; Powertools reads them.

    Not LAMBDA_TASK_ROOT, by which Powertools would look for the daemon of X-Ray.

    Args:
        function: `module:attribute`.
    """
    module, _, attribute = function.partition(":")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or module.rpartition(".")[2]
    given = {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{'.'.join(platform.python_version_tuple()[:2])}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": VERSION,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(DEFAULT_MEMORY_MB),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{name}-{uuid.uuid4().hex}",
        "_HANDLER": f"{module}.{attribute}",
    }
    for variable, value in given.items():
        os.environ.setdefault(variable, value)


class LambdaContext:
    """The second argument of a function, for one invocation.

    Args:
        timeout_ms: how long the invocation may run.
    """

    def __init__(self, timeout_ms: int) -> None:
        self._ends_at = time.monotonic() + timeout_ms / 1000
        self.aws_request_id = str(uuid.uuid4())
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.invoked_function_arn = (
            f"arn:aws:lambda:{os.environ['AWS_REGION']}:{ACCOUNT}:function:{self.function_name}"
        )
        #: In megabytes, as a text: AWS's own has the variable's.
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)
        self.client_context = None
        self.tenant_id = None

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until the invocation is stopped."""
        return max(0, int((self._ends_at - time.monotonic()) * 1000))

    def log(self, text: object) -> None:
        """Write a text to the log, as it is."""
        sys.stderr.write(str(text))

"""A plugin of pytest for suites of other projects that are run against an endpoint of SQS.

It runs in an environment of its own, with the other projects and without this tree's packages, so
it is imported by its file's name. Environment variables tell it the suite and the endpoint:
FOREIGN_SUITE, FOREIGN_ENDPOINT. Queues that a test created are deleted when it ends: this stands
for the reset that moto's tests ask their own server for.

A test in excluded.toml is run all the same, and must fail; a name there that no test has any more
ends the run.
"""

from __future__ import annotations

import importlib
import os
import re
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import botocore.client
import pytest
from botocore.exceptions import BotoCoreError, ClientError

ENDPOINT: Final = os.environ["FOREIGN_ENDPOINT"]
SUITE: Final = os.environ["FOREIGN_SUITE"]
EXCLUDED: Final = Path(__file__).with_name("excluded.toml")
#: The account that moto's tests expect, as the access key that names it.
ACCOUNT: Final = "123456789012"
SIGNED: Final = (
    f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/us-east-1/sqs/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
_CREATED: Final[list[tuple[Any, str]]] = []


class Answer(NamedTuple):
    """The part of Flask's test response that moto's tests read."""

    data: bytes
    status_code: int


class BackendClient:
    """Stands for Flask's client of moto's own application, and asks the endpoint instead.

    moto ignores the account 123 in the paths of its tests; an endpoint has queues by account.
    """

    def test_client(self) -> BackendClient:
        return self

    def get(self, path: str = "/", **options: Any) -> Answer:
        return self._open("GET", path, **options)

    def post(self, path: str = "/", **options: Any) -> Answer:
        return self._open("POST", path, **options)

    def _open(
        self, method: str, path: str, headers: Mapping[str, str], data: str | None = None
    ) -> Answer:
        request = urllib.request.Request(
            ENDPOINT + path.replace("/123/", f"/{ACCOUNT}/"),
            method=method,
            data=data.encode() if data is not None else b"" if method == "POST" else None,
            headers={**headers, "Authorization": SIGNED},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = Answer(answer.read(), answer.status)
        except urllib.error.HTTPError as error:
            return Answer(error.read(), error.code)
        if made := re.search(rb"<QueueUrl>(.*?)</QueueUrl>", found.data):
            _CREATED.append((self, made[1].decode()))
        return found

    def delete_queue(self, QueueUrl: str) -> None:  # noqa: N803 - boto3's name
        path = QueueUrl.removeprefix(ENDPOINT)
        self.get(f"{path}?Action=DeleteQueue", headers={})


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Set the variables before the first import of moto, which reads them once."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if SUITE == "moto":
        _prepare_moto()
    _record_queues()


def pytest_configure(config: pytest.Config) -> None:
    for name in ("requires_docker", "aws_verified", "env"):
        config.addinivalue_line("markers", f"{name}: of another project")


def _prepare_moto() -> None:
    os.environ |= {
        "TEST_SERVER_MODE": "true",
        "TEST_SERVER_MODE_ENDPOINT": ENDPOINT,
        "MOTO_CALL_RESET_API": "false",
    }
    server: Any = importlib.import_module("moto.server")
    config: Any = importlib.import_module("moto.core.config")
    config.default_user_config["core"]["mock_credentials"] = False
    server.create_backend_app = lambda _service: BackendClient()


def _record_queues() -> None:
    """Remember each queue that a client creates, with the client."""
    call = botocore.client.BaseClient._make_api_call

    def recorded(client: Any, operation: str, parameters: Any) -> Any:
        answer = call(client, operation, parameters)
        if operation == "CreateQueue":
            _CREATED.append((client, answer["QueueUrl"]))
        return answer

    botocore.client.BaseClient._make_api_call = recorded


@pytest.fixture(autouse=True)
def _queues_end_with_their_test() -> Iterator[None]:
    yield
    while _CREATED:
        client, url = _CREATED.pop()
        with suppress(ClientError, BotoCoreError):
            client.delete_queue(QueueUrl=url)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the excluded tests: each must fail."""
    tables = tomllib.loads(EXCLUDED.read_text())
    not_run: dict[str, str] = tables["not_run"] if SUITE == "moto" else {}
    excluded: dict[str, str] = tables.get(SUITE, {}) | not_run
    unknown = set(excluded)
    for test in items:
        for name in (test.nodeid, test.nodeid.partition("[")[0]):
            if reason := excluded.get(name):
                unknown.discard(name)
                runs = name not in not_run
                test.add_marker(pytest.mark.xfail(run=runs, reason=reason, strict=True))
                break
    if unknown:
        names = ", ".join(sorted(unknown))
        raise pytest.UsageError(
            f"{EXCLUDED.name} names tests of {SUITE} that are not there: {names}"
        )

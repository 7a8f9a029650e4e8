"""Lambda Powertools' DynamoDB layer, unchanged, against a running `durableq serve`."""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyValidationError,
)

from tests.contrib.lambdas import Context
from tests.serve.endpoint import serving
from tests.serve.test_dynamodb_client import KEY, client_of
from tests.support import new_file, scaled, wait_for

TABLE = "idempotency"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a server process, whose table is made as users make it."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "payments")
    # Its records of exceptions keep the connections in their tracebacks open.
    log = logging.getLogger("aws_lambda_powertools.middleware_factory.factory")
    monkeypatch.setattr(log, "disabled", True)
    with (
        serving(new_file(tmp_path / "shop.db")) as (port, _),
        closing(client_of(f"http://127.0.0.1:{port}")) as client,
    ):
        client.create_table(TableName=TABLE, **KEY)
        client.get_waiter("table_exists").wait(TableName=TABLE)
        expiry = {"Enabled": True, "AttributeName": "expiration"}
        client.update_time_to_live(TableName=TABLE, TimeToLiveSpecification=expiry)
        yield client


class Payments:
    """A function that pays, and counts how often it was run.

    Args:
        client: of the server.
        work: is called inside, with the event.
        more: settings of the idempotency.
    """

    def __init__(
        self, client: Any, work: Callable[[Any], Any] = lambda event: None, **more: Any
    ) -> None:
        self.runs = 0
        self.counting = threading.Lock()
        layer = DynamoDBPersistenceLayer(TABLE, boto3_client=client)
        config = IdempotencyConfig(event_key_jmespath="order", **more)

        @idempotent(config=config, persistence_store=layer)
        def pay(event: Any, context: Any) -> Any:
            with self.counting:
                self.runs += 1
                number = self.runs
            work(event)
            return {"payment": number, "of": event["order"]}

        self.pay: Any = pay

    def __call__(self, event: Any, left_ms: int = 30_000) -> Any:
        return self.pay(event, Context(left_ms))


def records(client: Any) -> list[dict[str, Any]]:
    """Return the description of the table."""
    return [client.describe_table(TableName=TABLE)["Table"]]


def test_a_repeated_event_gets_the_first_answer(client: Any) -> None:
    pay = Payments(client)
    assert pay({"order": "a"}) == {"payment": 1, "of": "a"}
    assert pay({"order": "a"}) == {"payment": 1, "of": "a"}
    assert pay({"order": "b"}) == {"payment": 2, "of": "b"}
    assert records(client)[0]["ItemCount"] == 2


def test_the_layer_of_the_page_runs_a_function_once(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs/DYNAMODB.md").read_text()
    found = re.search(r"<!-- python -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"DynamoDBPersistenceLayer": DynamoDBPersistenceLayer, "boto3": boto3}
    variables = re.findall(r"\b(AWS_(?:ACCESS|SECRET|DEFAULT)\w*)=(\S+)", page)
    for name, value in variables:
        monkeypatch.setenv(name, value)
    exec(found[1].replace("http://127.0.0.1:4566", client.meta.endpoint_url), names)
    config = IdempotencyConfig(event_key_jmespath="order")
    runs: list[Any] = []

    @idempotent(config=config, persistence_store=names["layer"])
    def pay(event: Any, context: Any) -> int:
        runs.append(event)
        return len(runs)

    assert [pay({"order": "a"}, Context(30_000)) for _ in range(2)] == [1, 1]


def test_an_exception_deletes_the_record(client: Any) -> None:
    fails = [True]

    def work(event: Any) -> None:
        if fails:
            raise ValueError("no such card")

    pay = Payments(client, work)
    with pytest.raises(ValueError, match="no such card"):
        pay({"order": "a"})
    assert records(client)[0]["ItemCount"] == 0
    fails.clear()
    assert pay({"order": "a"}) == {"payment": 2, "of": "a"}


def test_an_expired_record_is_begun_again(client: Any) -> None:
    pay = Payments(client, expires_after_seconds=1)
    first = pay({"order": "a"})
    again: Any = wait_for(
        lambda: (found := pay({"order": "a"})) != first and found, seconds=scaled(30)
    )
    assert again["payment"] == 2


def test_a_payload_that_was_tampered_with_is_refused(client: Any) -> None:
    pay = Payments(client, payload_validation_jmespath="amount")
    pay({"order": "a", "amount": 10})
    assert pay({"order": "a", "amount": 10})["payment"] == 1
    with pytest.raises(IdempotencyValidationError):
        pay({"order": "a", "amount": 99})
    assert pay.runs == 1


def test_of_four_threads_one_runs_and_the_others_are_refused(client: Any) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work(event: Any) -> None:
        begun.set()
        assert may_end.wait(scaled(30))

    pay = Payments(client, work)
    together = threading.Barrier(4)
    answers: list[Any] = []

    def call() -> None:
        together.wait()
        try:
            answers.append(pay({"order": "a"}))
        except IdempotencyAlreadyInProgressError as error:
            answers.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) == 3)
    assert begun.is_set()
    assert all(isinstance(one, IdempotencyAlreadyInProgressError) for one in answers)
    may_end.set()
    for thread in threads:
        thread.join()
    assert pay.runs == 1
    assert answers[3] == {"payment": 1, "of": "a"} == pay({"order": "a"})


def test_of_four_threads_with_events_of_their_own_all_run(client: Any) -> None:
    pay = Payments(client)
    answers: dict[str, Any] = {}

    def call(order: str) -> None:
        for _ in range(3):
            answers[order] = pay({"order": order})

    threads = [threading.Thread(target=call, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pay.runs == 4
    assert {order: one["of"] for order, one in answers.items()} == {one: one for one in "abcd"}


def test_a_record_in_progress_whose_time_has_passed_is_taken_over(client: Any) -> None:
    stuck, may_end = threading.Event(), threading.Event()

    def work(event: Any) -> None:
        if not stuck.is_set():
            stuck.set()
            may_end.wait(scaled(60))

    pay = Payments(client, work)
    lost = threading.Thread(target=pay, args=({"order": "a"}, 1_000))
    lost.start()
    assert stuck.wait(scaled(30))

    def taken_over() -> Any:
        try:
            return pay({"order": "a"})
        except IdempotencyAlreadyInProgressError:
            return None

    assert taken_over() is None, "its second has not passed"
    assert wait_for(taken_over, seconds=scaled(30)) == {"payment": 2, "of": "a"}
    may_end.set()
    lost.join()


def test_a_function_and_a_sort_key_share_a_table(client: Any) -> None:
    names = [*KEY["AttributeDefinitions"], {"AttributeName": "sk", "AttributeType": "S"}]
    keys = [*KEY["KeySchema"], {"AttributeName": "sk", "KeyType": "RANGE"}]
    client.create_table(
        TableName="sorted",
        AttributeDefinitions=names,
        KeySchema=keys,
        BillingMode="PAY_PER_REQUEST",
    )
    layer = DynamoDBPersistenceLayer("sorted", boto3_client=client, sort_key_attr="sk")
    runs: list[str] = []

    config = IdempotencyConfig()
    left: Any = Context()
    config.register_lambda_context(left)

    def shipping(order: str) -> str:
        runs.append(order)
        return f"shipped {order}"

    ship: Any = idempotent_function(
        shipping, data_keyword_argument="order", persistence_store=layer, config=config
    )
    assert [ship(order=one) for one in ("a", "b", "a")] == ["shipped a", "shipped b", "shipped a"]
    assert runs == ["a", "b"]


def test_records_outlive_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "payments")
    db = new_file(tmp_path / "shop.db")
    with serving(db) as (port, run), closing(client_of(f"http://127.0.0.1:{port}")) as client:
        client.create_table(TableName=TABLE, **KEY)
        assert Payments(client)({"order": "a"}) == {"payment": 1, "of": "a"}
        run.kill()
        run.wait(scaled(30))
    with serving(db) as (port, _), closing(client_of(f"http://127.0.0.1:{port}")) as client:
        pay = Payments(client)
        assert pay({"order": "a"}) == {"payment": 1, "of": "a"}
        assert pay.runs == 0

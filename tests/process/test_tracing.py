"""Spans of OpenTelemetry across two processes, and the context that messages carry."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from durableq import DurableQ, InvalidBody
from durableq.client import tracing
from durableq.model.limits import MAX_ATTRIBUTES, MAX_ATTRIBUTES_BYTES
from durableq.model.message import draft
from tests.process.child import ROOT
from tests.support import scaled

#: Not imported: it configures an SDK for its process.
APP = "tests.process.traced_app:dq"
Span = dict[str, Any]


def spans(*command: str) -> list[Span]:
    """Run a process to its end and return the spans that it and its workers printed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith('{"span"')]
    return [json.loads(line)["span"] for line in lines]


def named(found: list[Span], name: str) -> list[Span]:
    assert name in {span["name"] for span in found}, found
    return [span for span in found if span["name"] == name]


def work(db: Path) -> list[Span]:
    return spans("durableq", "work", "--drain", f"--db={db}", f"--app={APP}")


def test_spans_of_a_worker_lead_to_those_of_the_producer(db: Path) -> None:
    sent = spans("tests.process.traced_app", str(db))
    first, second = named(sent, "send orders")
    assert first["kind"] == "PRODUCER"
    assert first["scope"] == ["durableq", tracing.SCHEMA]
    assert first["attributes"] == {
        "messaging.system": "durableq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders",
        "messaging.message.id": "1",
    }
    many, one = named(sent, "send bulk")
    assert many["attributes"]["messaging.batch.message_count"] == 2
    done = work(db)
    processed, rejected = named(done, "process orders")
    for span, sender in ((processed, first), (rejected, second)):
        assert (span["kind"], span["trace"]) == ("CONSUMER", sender["trace"])
        assert (span["parent"], span["links"]) == (sender["id"], [sender["id"]])
    assert "error.type" not in processed["attributes"]
    assert rejected["attributes"]["error.type"].endswith("Reject")
    assert (rejected["status"], rejected["events"]) == ("ERROR", 0), "its text is not a span's"
    (follow,) = named(done, "send mail")
    assert follow["parent"] == processed["id"]
    assert [span["parent"] for span in named(done, "process mail")] == [follow["id"]]
    (batch,) = named(done, "process bulk")
    assert (batch["parent"], batch["links"]) == (None, [many["id"], one["id"]])
    assert batch["attributes"]["messaging.batch.message_count"] == 3
    for operation in ("receive", "settle"):
        found = named(done, f"{operation} bulk")
        assert {span["kind"] for span in found} == {"CLIENT"}
        assert [one for span in found for one in span["links"]] == [many["id"], one["id"]]
    redrive = ("durableq", "dlq", "redrive", "--queue=orders", f"--db={db}")
    assert spans(*redrive) == []
    (again,) = named(work(db), "process orders")
    assert again["links"] == [second["id"]], "a redrive keeps the link"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Spans of this process, without a provider for the others of its tests."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "active", tracing.Tracing(provider))
    yield exporter
    provider.shutdown()


def test_the_senders_attributes_come_first(dq: DurableQ, exporter: InMemorySpanExporter) -> None:
    orders = dq.queue("orders")
    full = {f"a{number}": number for number in range(MAX_ATTRIBUTES)}
    almost_full = {f"a{number}": number for number in range(MAX_ATTRIBUTES - 1)}
    large = {"a": "x" * (MAX_ATTRIBUTES_BYTES - 20)}
    own = {"traceparent": "mine"}
    for given in (full, almost_full, large, own):
        orders.send(1, attributes=given)
    taken = [message.attributes for message in orders.receive(10)]
    assert [taken[0], taken[2], taken[3]] == [full, large, own]
    assert taken[1].keys() - almost_full.keys() == {"traceparent"}
    names = [span.name for span in exporter.get_finished_spans()]
    assert names == ["send orders"] * 4 + ["receive orders"]
    (receive,) = exporter.get_finished_spans()[-1:]
    assert len(receive.links) == 1, "one message carries a context"


def test_sends_of_coroutines_have_the_span_of_their_coroutine_as_parent(
    dq: DurableQ, exporter: InMemorySpanExporter
) -> None:
    """Also those that share a commit; each carries the context of its own span."""
    orders, small = dq.queue("orders"), dq.queue("small", max_body_bytes=10)
    tracer = vars(tracing.active)["_tracer"]

    async def request(number: int) -> None:
        with tracer.start_as_current_span(f"request {number}"):
            await orders.asend(number)

    async def main() -> None:
        await asyncio.gather(*map(request, range(20)))
        with pytest.raises(InvalidBody):
            await small.asend("x" * 20)

    asyncio.run(main())
    ended = {span.context.span_id: span for span in exporter.get_finished_spans() if span.context}
    for message in orders.receive(20):
        _, _, span_id, _ = str(message.attributes["traceparent"]).split("-")
        sent = ended[int(span_id, 16)]
        assert (sent.attributes or {})["messaging.message.id"] == message.id
        assert sent.parent is not None
        assert ended[sent.parent.span_id].name == f"request {message.body}"
    *_, failed = [span for span in ended.values() if span.name == "send small"]
    assert str((failed.attributes or {})["error.type"]).endswith("InvalidBody")


def test_a_failed_send_is_a_span_with_the_class_of_the_error(
    exporter: InMemorySpanExporter,
) -> None:
    def fail(_: object) -> list[str]:
        raise OSError("a secret")

    assert tracing.active is not None
    with pytest.raises(OSError, match="a secret"):
        tracing.active.send("orders", [draft(1)], fail)
    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "OSError"
    assert span.status.description is None


def test_without_an_sdk_nothing_is_added(dq: DurableQ) -> None:
    assert tracing.active is None
    orders = dq.queue("orders")
    send = partial(orders.send, attributes={"a": 1})
    send(1)
    assert [message.attributes for message in orders.receive()] == [{"a": 1}]

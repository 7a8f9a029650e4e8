"""An application with an SDK of OpenTelemetry, whose spans it prints as lines of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from durableq import Delivery, DurableQ, Reject
from durableq.client.delivery import Batch


def described(span: ReadableSpan) -> dict[str, Any]:
    """Return the parts of a span that tests look at."""
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None
    assert scope is not None
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": f"{context.trace_id:032x}",
        "id": f"{context.span_id:016x}",
        "parent": None if span.parent is None else f"{span.parent.span_id:016x}",
        "links": [f"{link.context.span_id:016x}" for link in span.links],
        "attributes": dict(span.attributes or {}),
        "status": span.status.status_code.name,
        "events": len(span.events),
        "scope": [scope.name, scope.schema_url],
    }


class Printed(SpanExporter):
    """Prints spans to stderr."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            print(json.dumps({"span": described(span)}), file=sys.stderr, flush=True)
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Printed()))
trace.set_tracer_provider(provider)

dq = DurableQ()
orders = dq.queue("orders", max_receives=1)


@dq.handler("orders")
def act(message: Delivery) -> None:
    if message.body == "reject":
        raise Reject("no")
    with message.transaction() as tx:
        tx.send("mail", "follow")


@dq.handler("mail")
def mail(message: Delivery) -> None:
    assert message.attributes


@dq.handler("bulk", batch=10)
async def act_on_batch(batch: Batch) -> None:
    assert batch


if __name__ == "__main__":
    dq.use(sys.argv[1])
    orders.send("work", attributes={"mine": 7})
    orders.send("reject")
    dq.queue("bulk").send_many([1, 2])
    dq.queue("bulk").send(3)
    dq.close()

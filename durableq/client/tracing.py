"""Spans of OpenTelemetry, by opentelemetry-api alone (extra `otel`).

The library is imported only where the application has imported it and configured an SDK before it
opens a store; otherwise `active` is None, and nothing here runs. The names are those of the
semantic conventions for messaging at SCHEMA.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from durableq.client.failures import type_name
from durableq.model import codec
from durableq.model.errors import InvalidInput
from durableq.model.message import Draft, Message

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TracerProvider

    from durableq.client.delivery import Batch, Delivery
    from durableq.client.handlers import Handler

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
SYSTEM: Final = "durableq"
#: The attributes of a message that carry the context of its sender, the needed one first.
CARRIED: Final = ("traceparent", "tracestate")

_Store = Callable[[list[Draft]], list[str]]
_StoreAsync = Callable[[list[Draft]], Awaitable[list[str]]]


class Tracing:
    """Makes the spans of this process.

    Args:
        provider: of the SDK; it decides which spans are recorded, and where they go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._api = trace
        self._tracer = provider.get_tracer(SYSTEM, schema_url=SCHEMA)
        self._no_context = Context()
        self._propagator = TraceContextTextMapPropagator()

    def send(self, queue: str, drafts: Sequence[Draft], store: _Store) -> list[str]:
        """Store messages inside a producer's span, whose context they carry; return their ids."""
        with self._sending(queue, drafts) as (carrying, sent):
            ids = store(carrying)
            sent(ids)
            return ids

    async def send_async(
        self, queue: str, drafts: Sequence[Draft], store: _StoreAsync
    ) -> list[str]:
        """Do as `send` does, in a coroutine: the span is open while it waits."""
        with self._sending(queue, drafts) as (carrying, sent):
            ids = await store(carrying)
            sent(ids)
            return ids

    @contextmanager
    def _sending(
        self, queue: str, drafts: Sequence[Draft]
    ) -> Iterator[tuple[list[Draft], Callable[[list[str]], None]]]:
        """Open a producer's span; yield drafts that carry its context, and a function for the ids.

        Args:
            queue: the target.
            drafts: as the sender made them.
        """
        about = self._about("send", queue, len(drafts))
        with self._span("send", queue, self._api.SpanKind.PRODUCER, about) as span:

            def sent(ids: list[str]) -> None:
                if len(ids) == 1 and ids[0]:
                    span.set_attribute("messaging.message.id", ids[0])

            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            yield [_carrying(one, carrier) for one in drafts], sent

    def received(self, queue: str, messages: Sequence[Message], seconds: float) -> None:
        """Make the span of a receive that has just ended with messages."""
        self._ended("receive", queue, messages, seconds)

    def settled(self, deliveries: Iterable[Delivery], seconds: float) -> None:
        """Make the span of a transaction that has just settled messages; one for each queue."""
        by_queue = defaultdict[str, list[Message]](list)
        for delivery in deliveries:
            by_queue[delivery.queue].append(delivery.message)
        for queue, messages in by_queue.items():
            self._ended("settle", queue, messages, seconds)

    def traced(self, handler: Handler) -> Handler:
        """Return a handler whose calls are inside a consumer's span."""
        function, queue = handler.function, handler.queue

        def messages(given: Any) -> list[Message]:
            return [given.message] if handler.batch is None else [one.message for one in given]

        def call(given: Delivery | Batch) -> Any:
            with self._processing(queue, messages(given)):
                return function(given)

        async def wait(given: Delivery | Batch) -> Any:
            with self._processing(queue, messages(given)):
                return await function(given)

        return replace(handler, function=wait if handler.is_async else call)

    @contextmanager
    def _processing(self, queue: str, messages: Sequence[Message]) -> Iterator[None]:
        """Open the span of a handler call, linked to the senders: the child of an only one."""
        about = self._about("process", queue, len(messages), messages[0].id)
        sender = self._sender(messages[0]) if len(messages) == 1 else None
        parent = self._api.INVALID_SPAN if sender is None else self._api.NonRecordingSpan(sender)
        context = self._api.set_span_in_context(parent)
        links = self._links(messages)
        kind = self._api.SpanKind.CONSUMER
        with self._span("process", queue, kind, about, context=context, links=links):
            yield

    @contextmanager
    def _span(
        self, operation: str, queue: str, kind: SpanKind, about: dict[str, Any], **more: Any
    ) -> Iterator[Span]:
        """Open a span. Of an exception it has the class: its text is in the message's history."""
        with self._tracer.start_as_current_span(
            f"{operation} {queue}",
            kind=kind,
            attributes=about,
            record_exception=False,
            set_status_on_exception=False,
            **more,
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type_name(type(error)))
                span.set_status(self._api.StatusCode.ERROR)
                raise

    def _ended(
        self, operation: str, queue: str, messages: Sequence[Message], seconds: float
    ) -> None:
        """Make the span of an operation that has just ended."""
        self._tracer.start_span(
            f"{operation} {queue}",
            kind=self._api.SpanKind.CLIENT,
            attributes=self._about(operation, queue, len(messages), messages[0].id),
            links=self._links(messages),
            start_time=time.time_ns() - round(seconds * 1e9),
        ).end()

    def _about(
        self, operation: str, queue: str, number: int, message_id: str = ""
    ) -> dict[str, Any]:
        """Return the attributes of a span."""
        about: dict[str, Any] = {
            "messaging.system": SYSTEM,
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": queue,
        }
        if number > 1:
            about["messaging.batch.message_count"] = number
        elif message_id:
            about["messaging.message.id"] = message_id
        return about

    def _links(self, messages: Iterable[Message]) -> list[Link]:
        """Return a link to each sender; the messages of one send have the same."""
        senders = {each.span_id: each for each in map(self._sender, messages) if each is not None}
        return [*map(self._api.Link, senders.values())]

    def _sender(self, message: Message) -> SpanContext | None:
        """Return the context that a message carries; None if it carries none, or another text."""
        if message.attributes is None or CARRIED[0] not in message.attributes:
            return None
        attributes = codec.decode_attributes(message.attributes)
        carrier = {name: str(attributes[name]) for name in CARRIED if name in attributes}
        context = self._propagator.extract(carrier, context=self._no_context)
        sender = self._api.get_current_span(context).get_span_context()
        return sender if sender.is_valid else None


#: The spans of this process; None: no SDK was configured when a store was opened.
active: Tracing | None = None


def activate() -> None:
    """Make spans from now on if the application has configured an SDK of OpenTelemetry."""
    global active  # noqa: PLW0603 - the provider of the SDK is one for the process, too
    api = sys.modules.get("opentelemetry.trace")
    if active is None and api is not None:
        provider = api.get_tracer_provider()
        if not isinstance(provider, (api.ProxyTracerProvider, api.NoOpTracerProvider)):
            active = Tracing(provider)


def _carrying(draft: Draft, carrier: dict[str, str]) -> Draft:
    """Return a draft with the context as attributes, as far as they fit.

    The sender's own attributes come first: if it has set a context itself, or they leave no room,
    the draft stays as it is.
    """
    given = codec.decode_attributes(draft.attributes)
    if not given.keys().isdisjoint(CARRIED):
        return draft
    for names in (CARRIED, CARRIED[:1]):
        try:
            all_of_them = given | {name: carrier[name] for name in names if name in carrier}
            return draft._replace(attributes=codec.encode_attributes(all_of_them))
        except InvalidInput:
            continue
    return draft

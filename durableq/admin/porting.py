"""Parts of an application that another store does not take, or treats otherwise.

A finding is BAD if the target refuses it or has nothing for it, and WARN if it works otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from durableq.admin import sqs_quotas as sqs
from durableq.admin.source_scan import Call, calls_of
from durableq.client.app import DurableQ
from durableq.client.handlers import Handler
from durableq.model.health import Finding, bad, ok, warn
from durableq.model.message import Message
from durableq.model.queues import DEAD_LETTER_SUFFIX, settings_of_changes
from durableq.model.settings import QueueSettings
from durableq.model.units import span
from durableq.store.core import Capability, Store

#: Messages that one read returns.
PAGE: Final = 500


class Target(Enum):
    """A store to which an application may move."""

    POSTGRES = "postgres"
    SQS = "sqs"


@dataclass
class Content:
    """Facts about the messages of a queue."""

    messages: int = 0
    largest_bytes: int = 0
    binary: int = 0
    keys: int = 0
    priorities: int = 0
    longest_delay_ms: int = 0
    #: Keys, groups and names that have U+0000; groups that SQS does not take.
    with_nul: int = 0
    odd_groups: int = 0
    groups: set[str] = field(default_factory=set)

    def add(self, message: Message) -> None:
        """Take a message into account."""
        body, attributes = message.body, message.attributes
        size = len(body) if isinstance(body, bytes) else len(body.encode())
        self.messages += 1
        self.largest_bytes = max(self.largest_bytes, size + len((attributes or "").encode()))
        self.binary += isinstance(body, bytes)
        self.keys += message.key is not None
        self.priorities += message.priority != 0
        if message.delayed_until_ms and not message.held:
            delay_ms = message.delayed_until_ms - message.sent_at_ms
            self.longest_delay_ms = max(self.longest_delay_ms, delay_ms)
        self.with_nul += any("\0" in text for text in (message.key, message.group) if text)
        if message.group is not None:
            self.groups.add(message.group)
            self.odd_groups += sqs.ID.fullmatch(message.group) is None


def content_of(store: Store, queue: str) -> Content:
    """Read all messages of a queue, in pages."""
    inspect, found = store.require(Capability.INSPECT), Content()
    after = None
    while page := inspect.peek(queue, PAGE, after):
        for message in page:
            found.add(message)
        after = page[-1].id
    records = store.require(Capability.IDEMPOTENCY)
    key = None
    while kept := records.records(queue, PAGE, key):
        found.keys += len(kept)
        found.with_nul += sum("\0" in record.key for record in kept)
        key = kept[-1].key
    return found


def lint(app: DurableQ, target: Target, store: Store | None) -> list[Finding]:
    """Return the findings about an application, its queues, and the messages that are there.

    Args:
        app: the application, with its handlers; it is not opened.
        target: where it is to go.
        store: its store, of which nothing is changed; None: there is none yet.
    """
    declared = app.declared
    names = sorted({*app.handlers, *app.policies, *declared})
    changed = {name: settings_of_changes(declared.get(name, {})) for name in names}
    settings = {name: QueueSettings().changed(changed[name]) for name in names}
    contents: dict[str, Content] = {}
    for info in store.require(Capability.INSPECT).queues() if store else ():
        contents[info.name] = content_of(store, info.name)  # type: ignore[arg-type]
        if info.dead_letter_queue is not None:
            settings[info.name] = info.settings
    calls, missing = calls_of(app)
    of_target = _POSTGRES if target is Target.POSTGRES else _SQS
    found = [*of_target(app, settings, contents, calls)]
    for queue in missing:
        what = f"{queue}: the source of its handler is not there to be read"
        found.append(warn("source", what, "Look at its calls yourself."))
    if store is None:
        what = "there is no store yet: only the application was looked at"
        found.append(warn("store", what, "Run it again where messages are, with --db."))
    return found or [ok("porting", f"nothing stands in the way to {target.value}")]


Settings = Mapping[str, QueueSettings]
Contents = Mapping[str, Content]
Rules = Callable[[DurableQ, Settings, Contents, list[Call]], Iterator[Finding]]


# ---- PostgreSQL


def _to_postgres(
    app: DurableQ, settings: Settings, contents: Contents, calls: list[Call]
) -> Iterator[Finding]:
    for queue, content in contents.items():
        if content.with_nul:
            finding = bad(
                "nul",
                f"{queue}: {content.with_nul} keys or groups have the character U+0000, which "
                "PostgreSQL cannot store",
                "Let those messages end and their keys expire, or forget them (durableq "
                "idempotency forget), and send no more of them.",
            )
            yield _of_queue(finding, queue)
    for queue, each in settings.items():
        if each.min_free_bytes:
            what = f"{queue}: min_free_bytes has no effect: the server's disk is not seen from here"
            yield _of_queue(warn("min_free_bytes", what, "Watch the disk of the server."), queue)
    if "?" in app.url and app.url.startswith("sqlite:"):
        what = "the options of the file's URL (synchronous, busy_timeout) mean nothing there"
        yield warn("url", what, "Leave them out: a commit is as durable as the server's settings.")
    for call in calls:
        if call.method == "execute":
            what = f"{call.place}: a statement is executed, and its SQL cannot be judged from here"
            yield warn("sql", what, "Try it there: functions and types differ from SQLite's.")
        if call.is_send and "connection" in call.options:
            what = f"{call.place}: the send joins a connection, which must be to PostgreSQL then"
            yield warn("connection", what, "Give a connection of SQLAlchemy or psycopg.")


# ---- SQS


def _to_sqs(
    app: DurableQ, settings: Settings, contents: Contents, calls: list[Call]
) -> Iterator[Finding]:
    for queue, each in settings.items():
        yield from (_of_queue(finding, queue) for finding in _settings_on_sqs(queue, each))
    for queue, content in contents.items():
        yield from (_of_queue(finding, queue) for finding in _content_on_sqs(queue, content))
    for queue, handler in app.handlers.items():
        yield from (_of_queue(finding, queue) for finding in _handler_on_sqs(queue, handler))
    for queue in app.policies:
        what = f"{queue}: its recovery policy has no counterpart"
        advice = "Read the dead-letter queue with a consumer of your own; SQS redrives all or none."
        yield _of_queue(warn("recovery", what, advice), queue)
    for call in calls:
        yield from _call_on_sqs(call)


def _of_queue(finding: Finding, queue: str) -> Finding:
    return finding._replace(queue=queue)


#: Settings that SQS has nothing for, and the next best thing there.
_NO_SETTING: Final = {
    "rate": "Limit the consumers: MaximumConcurrency of an event source mapping, or their number.",
    "max_in_flight": "MaximumConcurrency of an event source mapping is the next best thing.",
    "group_rate": "Limit it in the handler.",
    "breaker": "Stop the consumers yourself while the service is down.",
    "slow_start_ms": "Start the consumers step by step.",
    "retry_share": "Failed messages come back when their visibility timeout ends, all of them.",
    "max_backlog": "Watch ApproximateNumberOfMessages, and refuse in the producer.",
    "max_backlog_bytes": "Watch ApproximateNumberOfMessages, and refuse in the producer.",
    "expires_in_ms": "Compare SentTimestamp in the handler; retention is for a whole queue.",
    "priority_aging_ms": "Use a queue for each priority.",
}


def _settings_on_sqs(queue: str, settings: QueueSettings) -> Iterator[Finding]:
    for name, advice in _NO_SETTING.items():
        if getattr(settings, name) not in (0, getattr(QueueSettings(), name)):
            yield bad("limits", f"{queue}: SQS has no {name.removesuffix('_ms')}", advice)
    is_fifo = settings.group_concurrency == 1
    longest = sqs.NAME_CHARS.most - len(DEAD_LETTER_SUFFIX) - len(sqs.FIFO_END) * is_fifo
    if not sqs.NAME.fullmatch(queue) or len(queue) > longest:
        what = f"{queue}: a queue of SQS has at most {longest} characters of A-Z a-z 0-9 _ - there"
        yield bad("name", what, f"Map it to another name. {sqs.NAME_CHARS.source}")
    if is_fifo:
        yield bad(
            "fifo",
            f"{queue}: strict order in groups needs a FIFO queue",
            f"Name it {queue}{sqs.FIFO_END}; give each message a deduplication_id, or switch on "
            f"ContentBasedDeduplication; give no delay to single messages. {sqs.FIFO}",
        )
    elif settings.group_concurrency:
        what = f"{queue}: group_concurrency={settings.group_concurrency}; SQS has 1 (FIFO), or none"
        yield bad("fifo", what, f"Use 1, or a standard queue. {sqs.FIFO}")
    if settings.delay_ms > sqs.DELAY_MS.most:
        what = f"{queue}: its delay is {span(settings.delay_ms)}; SQS delays at most 15 minutes"
        yield bad("delay", what, f"Use EventBridge Scheduler. {sqs.DELAY_MS.source}")
    least, most = sqs.LEAST_RETENTION_MS.most, sqs.RETENTION_MS.most
    if not least <= settings.retention_ms <= most:
        what = f"{queue}: its retention is {span(settings.retention_ms)}; SQS has 60 s to 14 days"
        yield bad("retention", what, f"Change it. {sqs.RETENTION_MS.source}")
    if settings.max_body_bytes > sqs.MESSAGE_BYTES.most:
        what = f"{queue}: it takes bodies of more than 1 MiB, with which SQS refuses a message"
        yield bad("size", what, f"Send keys of S3 objects. {sqs.MESSAGE_BYTES.source}")
    if settings.deduplication_window_ms != sqs.DEDUPLICATION_MS.most:
        what = f"{queue}: its deduplication_window is not 5 minutes, which SQS has fixed"
        yield warn("deduplication", what, f"Set it to 300. {sqs.DEDUPLICATION_MS.source}")


def _content_on_sqs(queue: str, content: Content) -> Iterator[Finding]:
    if content.keys:
        yield bad(
            "keys",
            f"{queue}: {content.keys} messages and records have a key, and SQS has none: a "
            "duplicate is handled twice",
            "Keep the keys in DynamoDB: the idempotency of Powertools for AWS Lambda does.",
        )
    if content.priorities:
        what = f"{queue}: {content.priorities} messages have a priority, and SQS has none"
        yield bad("priority", what, "Use a queue for each priority.")
    if content.largest_bytes > sqs.MESSAGE_BYTES.most:
        what = f"{queue}: a body with attributes has {content.largest_bytes} bytes; 1 MiB is most"
        yield bad("size", what, f"Store it in S3, and send its key. {sqs.MESSAGE_BYTES.source}")
    if content.binary:
        what = f"{queue}: {content.binary} bodies are bytes; SQS takes text only"
        yield bad("bytes", what, f"Send them as base64, or a binary attribute. {sqs.MESSAGES}")
    if content.longest_delay_ms > sqs.DELAY_MS.most:
        waits = span(content.longest_delay_ms)
        what = f"{queue}: a message is delayed by {waits}; SQS delays at most 15 minutes"
        yield bad("delay", what, f"Use EventBridge Scheduler. {sqs.DELAY_MS.source}")
    if content.odd_groups:
        what = f"{queue}: {content.odd_groups} groups have characters that SQS refuses"
        yield bad("group", what, f"Use 1 to 128 of ASCII without blanks. {sqs.MESSAGES}")


def _handler_on_sqs(queue: str, handler: Handler) -> Iterator[Finding]:
    batch = handler.batch or 0
    if batch > sqs.BATCH.most:
        what = f"{queue}: its handler takes batches of {batch}; a receive of SQS has at most 10"
        yield warn("batch", what, f"Gather them, or use batch=10. {sqs.BATCH.source}")


#: Options of a send that SQS has nothing for, and the next best thing there.
_NO_OPTION: Final = {
    "key": "Keep the keys in DynamoDB: the idempotency of Powertools for AWS Lambda does.",
    "at": "Compute its DelaySeconds within 15 minutes; use EventBridge Scheduler for later ones.",
    "priority": "Use a queue for each priority.",
    "replace_key": "Look up the newest state in the handler instead.",
    "debounce": "Use EventBridge Scheduler.",
    "expires_in": "Compare SentTimestamp in the handler.",
    "connection": "Write the message to an outbox table, and send it after the commit.",
}
_NO_METHOD: Final = {
    "transaction": "The effect and the acknowledgement are two writes there: make handlers "
    "idempotent.",
    "cancel": "A message of SQS is deleted by who has received it.",
    "reschedule": "Use EventBridge Scheduler.",
    "run_now": "Use EventBridge Scheduler.",
    "once": "Use a cache with a lock, or DynamoDB.",
}


def _call_on_sqs(call: Call) -> Iterator[Finding]:
    if (advice := _NO_METHOD.get(call.method)) is not None:
        yield bad("call", f"{call.place}: SQS has no {call.method}()", advice)
    if not call.is_send:
        return
    for name, advice in _NO_OPTION.items():
        if name in call.options and call.options[name] is not None:
            yield bad("call", f"{call.place}: SQS has no {name}= at a send", advice)
    yield from _delay_on_sqs(call.place, call.options.get("delay"))
    for name in ("group", "deduplication_id"):
        if name in call.options:
            what = f"{call.place}: {name}= needs a FIFO queue"
            yield warn("fifo", what, f"Its name ends in .fifo. {sqs.FIFO}")


def _delay_on_sqs(place: str, delay: Any) -> Iterator[Finding]:
    if isinstance(delay, timedelta):
        delay = delay.total_seconds()
    advice = f"Use EventBridge Scheduler for longer ones. {sqs.DELAY_MS.source}"
    if delay is ...:
        what = f"{place}: a delay that is computed when it is sent; SQS delays at most 15 minutes"
        yield warn("delay", what, advice)
    elif isinstance(delay, int | float) and delay * 1000 > sqs.DELAY_MS.most:
        yield bad(
            "delay", f"{place}: a delay of {delay:g} s; SQS delays at most 15 minutes", advice
        )


_POSTGRES: Final[Rules] = _to_postgres
_SQS: Final[Rules] = _to_sqs

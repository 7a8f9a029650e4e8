"""Fields whose values are hidden on the pages, by name.

The pages read the store through `RedactedStore`, so a value that it hides is in no page. Texts of
errors may quote any value, so they are hidden as well while a field is.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, cast

from durableq.dashboard.errors import Refusal
from durableq.model import codec
from durableq.model.codec import Encoded
from durableq.model.dead_letters import (
    RECOVERY_ACTOR,
    DeadLetterFilter,
    DeadLetterGroup,
    RecoveryDecisions,
)
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.health import Finding
from durableq.model.info import (
    ALL_EVENTS,
    ANYTHING,
    BreakerInfo,
    GroupInfo,
    HistoryFilter,
    HistoryPage,
    QueueInfo,
    Search,
    SearchPage,
)
from durableq.model.message import DeadLetter, HistoryEvent, IdempotencyRecord, Message
from durableq.model.once import OnceEntry
from durableq.model.progress import Progress
from durableq.model.slots import ScheduleInfo
from durableq.model.text import is_storable, shown
from durableq.store.core import Capability, Store

#: Stands for a hidden value.
HIDDEN: Final = "hidden"
#: The stored form of a body that is hidden whole.
HIDDEN_BODY: Final = json.dumps(HIDDEN)
#: JSON in a string of JSON, and so on, this often; what is deeper is hidden.
MAX_TEXTS: Final = 5
#: Stands before the object or list of such a string.
_BEFORE: Final = ' \t\r\n\f\v\ufeff"\\'
#: The operations of a store that pages may use as they are: they return numbers, states, names,
#: and notes of persons. RedactedStore refuses what is not here and not its
#: own: a new read may have the value of a hidden field.
PASSED: Final = frozenset(
    {
        *("capabilities", "scheme", "settings", "storage", "workers", "ended", "samples"),
        *("count_once", "count_ready", "count_records", "key_counts", "ready_in_ms"),
        *("mark_before", "mark_since", "recoveries", "redrive_task", "redrive_tasks"),
        *("get_metadata", "orphans"),  # of breakers of recovery; of an audit
        *("cancel", "reschedule", "purge", "decide_by_id", "drain", "forget", "once_forget"),
        *("start_redrive", "set_redrive_rate", "cancel_redrive", "run_schedule"),
    }
)
#: The text of an error, in a sentence about it.
_SAID: Final = re.compile(r"( raised [^\s:]+: ).*", re.DOTALL)
#: The origin of a decision by recovery, before its own text.
_ORIGIN: Final = re.compile(
    r"(rule \d+|rule \"[^\"]*\"|the policy raised [^\s:]+)(: .*)?", re.DOTALL
)


class Redaction:
    """The fields that are hidden.

    Args:
        patterns: names of fields, or several joined by dots for a field inside another; `*` stands
            for any characters of a name. A pattern matches at any depth, in capitals too.

    Raises:
        InvalidInput: one of them is no such name.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        if isinstance(patterns, str):
            raise InvalidInput(f"redact is a list of fields, got {shown(patterns)}.")
        self._patterns = [_compiled(pattern) for pattern in patterns]

    @property
    def is_on(self) -> bool:
        """Whether any field is hidden."""
        return bool(self._patterns)

    def store(self, store: Store) -> Store:
        """Return a store that hides the fields in its reads."""
        return cast("Store", RedactedStore(store, self)) if self.is_on else store

    def body(self, stored: Encoded) -> Encoded:
        """Return a stored body without the values of hidden fields; bytes are hidden whole."""
        if isinstance(stored, bytes):
            return HIDDEN_BODY
        return self._json(stored)

    def attributes(self, stored: str | None) -> str | None:
        """Return stored attributes, or a stored result, without the values of hidden fields."""
        return None if stored is None else self._json(stored)

    def value(self, value: Any, names: tuple[str, ...] = (), texts: int = 0) -> Any:
        """Return a value of JSON without the values of hidden fields.

        Args:
            value: the value under the names.
            names: of the objects around it, from the outermost.
            texts: the number of strings around it that are JSON.
        """
        if names and self._hides(names):
            return HIDDEN
        if isinstance(value, dict):
            return {
                name: self.value(inner, (*names, *name.casefold().split(".")), texts)
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self.value(inner, names, texts) for inner in value]
        return self._text(value, names, texts) if isinstance(value, str) else value

    def message(self, message: Message) -> Message:
        """Return a message without the values of hidden fields."""
        body, attributes = self.body(message.body), self.attributes(message.attributes)
        return message._replace(body=body, attributes=attributes)

    def event(self, event: HistoryEvent) -> HistoryEvent:
        """Return an event without the texts that may quote a hidden value."""
        reason = self.reason(event.reason, event.actor)
        said, trace = (text and HIDDEN for text in (event.error_message, event.traceback))
        detail = {
            name: self.sentence(each) if isinstance(each, str) else each
            for name, each in event.detail.items()
        }  # of a breaker: the error that opened it
        return event._replace(error_message=said, traceback=trace, reason=reason, detail=detail)

    def reason(self, reason: str, actor: str) -> str:
        """Return the reason of an event: of one by recovery its origin only."""
        if not actor.startswith(RECOVERY_ACTOR) or not reason:
            return reason
        origin = _ORIGIN.fullmatch(reason)
        return origin[1] if origin else HIDDEN

    def dead_letter(self, letter: DeadLetter) -> DeadLetter:
        """Return a dead letter without the values of hidden fields."""
        history = tuple(map(self.event, letter.history))
        return replace(letter, message=self.message(letter.message), history=history)

    def queue(self, info: QueueInfo) -> QueueInfo:
        """Return a queue without the text of the error that opened its breaker."""
        reason = info.limits.breaker_reason and self.sentence(info.limits.breaker_reason)
        return replace(info, limits=replace(info.limits, breaker_reason=reason))

    def finding(self, finding: Finding) -> Finding:
        """Return a finding without the text of an error."""
        return finding._replace(what=self.sentence(finding.what))

    def sentence(self, text: str) -> str:
        """Return a sentence without the text of the error that it quotes."""
        return _SAID.sub(rf"\1{HIDDEN}", text) if self.is_on else text

    def _json(self, stored: str) -> str:
        try:
            value = self.value(codec.decode(stored))
        except (InvalidBody, RecursionError):
            return HIDDEN_BODY
        return _encoded(value)

    def _text(self, text: str, names: tuple[str, ...], texts: int) -> str:
        """Return a string without the values of hidden fields, if it is an object or a list.

        Envelopes of SNS and SQS have such strings. One that begins so and cannot be read is hidden
        whole.
        """
        if not text.lstrip(_BEFORE).startswith(("{", "[")):
            return text
        if texts == MAX_TEXTS:
            return HIDDEN
        try:
            inner = json.loads(text.lstrip("\ufeff"))
        except (ValueError, RecursionError):
            return HIDDEN
        return _encoded(self.value(inner, names, texts + 1))

    def _hides(self, names: tuple[str, ...]) -> bool:
        return any(
            len(pattern) <= len(names)
            and all(
                part.fullmatch(name)
                for part, name in zip(reversed(pattern), reversed(names), strict=False)
            )
            for pattern in self._patterns
        )


class RedactedStore:
    """A store whose reads have no values of hidden fields, and of its other operations PASSED.

    Args:
        store: the store.
        redaction: the fields.
    """

    def __init__(self, store: Store, redaction: Redaction) -> None:
        self._store: Any = store
        self._redaction = redaction

    def __getattr__(self, name: str) -> Any:
        if name not in PASSED:
            raise AttributeError(f"Pages have no {name} of a store while fields are hidden.")
        return getattr(self._store, name)

    def require(self, capability: Capability) -> RedactedStore:
        """Return this store, if the engine has the capability.

        Raises:
            Unsupported: it does not have it.
        """
        self._store.require(capability)
        return self

    def queues(self, *, recount: bool = False, dead_letters: bool = False) -> list[QueueInfo]:
        """Return every queue, by name."""
        found = self._store.queues(recount=recount, dead_letters=dead_letters)
        return [self._redaction.queue(each) for each in found]

    def queue(self, name: str) -> QueueInfo:
        """Return one queue."""
        return self._redaction.queue(self._store.queue(name))

    def declare_queue(self, name: str, changes: Any, *, creates: bool = True) -> QueueInfo:
        """Change settings of a queue."""
        return self._redaction.queue(self._store.declare_queue(name, changes, creates=creates))

    def breaker(self, queue: str) -> BreakerInfo:
        """Return the circuit breaker of a queue."""
        return self._breaker(self._store.breaker(queue))

    def set_breaker(
        self, queue: str, *, is_open: bool, open_ms: int | None = None, actor: str = ""
    ) -> BreakerInfo:
        """Open or close the circuit breaker of a queue."""
        return self._breaker(
            self._store.set_breaker(queue, is_open=is_open, open_ms=open_ms, actor=actor)
        )

    def message(self, message_id: str) -> Message | None:
        """Return one message."""
        found = self._store.message(message_id)
        return None if found is None else self._redaction.message(found)

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Return messages of a queue in order of id."""
        return self._messages(self._store.peek(queue, limit, after_id))

    def search(
        self, queue: str, limit: int, wanted: Search = ANYTHING, before_id: str | None = None
    ) -> SearchPage:
        """Return messages of a queue that match, newest first.

        Raises:
            Refusal: it is a search for a text, which would find hidden values letter by letter.
        """
        if wanted.text is not None:
            raise Refusal(
                403,
                "Bodies cannot be searched while fields are hidden: a search would find them.",
                "Search by key or by id.",
            )
        page = self._store.search(queue, limit, wanted, before_id)
        return SearchPage(self._messages(page.messages), page.looked_to)

    def events(
        self, after: str = "", limit: int = 1000, wanted: HistoryFilter = ALL_EVENTS
    ) -> HistoryPage:
        """Return the next events of the histories of all messages."""
        page: HistoryPage = self._store.events(after, limit, wanted)
        return page._replace(events=[self._redaction.event(event) for event in page.events])

    def group(self, queue: str, name: str, limit: int = 10) -> GroupInfo:
        """Return the active messages of a group, and its dead letters."""
        found = self._store.group(queue, name, limit)
        return GroupInfo(self._messages(found.active), self._messages(found.dead))

    def leases_of(self, owner_id: int) -> list[Message]:
        """Return the messages leased by a worker."""
        return self._messages(self._store.leases_of(owner_id))

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """Return a dead letter with its history."""
        found = self._store.dead_letter(message_id)
        return None if found is None else self._redaction.dead_letter(found)

    def dead_letters(
        self,
        wanted: DeadLetterFilter,
        limit: int,
        after_id: str | None = None,
        *,
        newest_first: bool = False,
    ) -> list[DeadLetter]:
        """Return dead letters that match a filter."""
        found = self._store.dead_letters(wanted, limit, after_id, newest_first=newest_first)
        return [self._redaction.dead_letter(each) for each in found]

    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """Group the dead letters by queue, reason and fingerprint."""
        found = self._store.dead_letter_groups(queue)
        return [replace(each, error_message=each.error_message and HIDDEN) for each in found]

    def history(self, message_id: str) -> list[HistoryEvent]:
        """Return the exceptional events of a message."""
        return [self._redaction.event(event) for event in self._store.history(message_id)]

    def recovery_decisions(self, queue: str, since_ms: int, limit: int) -> RecoveryDecisions:
        """Count the decisions of recovery processes about dead letters of a queue."""
        found = self._store.recovery_decisions(queue, since_ms, limit)
        hide = self._redaction.reason
        counts = [each._replace(reason=hide(each.reason, RECOVERY_ACTOR)) for each in found.counts]
        return RecoveryDecisions(counts, found.is_partial)

    def record(self, queue: str, key: str) -> IdempotencyRecord | None:
        """Return the record of a key."""
        found = self._store.record(queue, key)
        return None if found is None else self._record(found)

    def records(
        self, queue: str, limit: int, after_key: str | None = None
    ) -> list[IdempotencyRecord]:
        """Return a queue's records in order of key."""
        return [self._record(each) for each in self._store.records(queue, limit, after_key)]

    def once_entry(self, key: str) -> OnceEntry | None:
        """Return the state of a key of `once`."""
        found = self._store.once_entry(key)
        return None if found is None else self._entry(found)

    def once_entries(self, limit: int, after_key: str | None = None) -> list[OnceEntry]:
        """Return the states of keys of `once`."""
        return [self._entry(each) for each in self._store.once_entries(limit, after_key)]

    def progress_of(self, message_ids: Sequence[str]) -> list[Progress]:
        """Return the last reports about messages."""
        return [_hidden(each) for each in self._store.progress_of(message_ids)]

    def progress_in(self, queue: str | None, limit: int) -> list[Progress]:
        """Return the last reports about messages of a queue, or of all."""
        return [_hidden(each) for each in self._store.progress_in(queue, limit)]

    def schedules(self) -> list[ScheduleInfo]:
        """Return all schedules, by name."""
        return [self._schedule(each) for each in self._store.schedules()]

    def schedule(self, name: str) -> ScheduleInfo:
        """Return one schedule."""
        return self._schedule(self._store.schedule(name))

    def pause_schedule(self, name: str, *, paused: bool, actor: str = "") -> ScheduleInfo:
        """Pause a schedule, or let it go on."""
        return self._schedule(self._store.pause_schedule(name, paused=paused, actor=actor))

    def _schedule(self, info: ScheduleInfo) -> ScheduleInfo:
        schedule, hide = info.schedule, self._redaction.attributes
        body, attributes = hide(schedule.body) or "", hide(schedule.attributes) or ""
        return info._replace(schedule=replace(schedule, body=body, attributes=attributes))

    def _messages(self, found: Sequence[Message]) -> list[Message]:
        return [self._redaction.message(each) for each in found]

    def _breaker(self, info: BreakerInfo) -> BreakerInfo:
        told = tuple(map(self._redaction.event, info.transitions))
        return replace(info, reason=self._redaction.sentence(info.reason), transitions=told)

    def _record(self, record: IdempotencyRecord) -> IdempotencyRecord:
        return replace(record, result=self._redaction.attributes(record.result))

    def _entry(self, entry: OnceEntry) -> OnceEntry:
        return replace(entry, value=self._redaction.attributes(entry.value))


def _encoded(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if is_storable(text) else json.dumps(value, separators=(",", ":"))


def _compiled(pattern: str) -> tuple[re.Pattern[str], ...]:
    """Return a pattern as expressions for the last names of a field.

    Raises:
        InvalidInput: it is no pattern.
    """
    if not isinstance(pattern, str):
        raise InvalidInput(f"A field to hide is a string, got {shown(pattern)}.")
    names = pattern.casefold().split(".")
    while len(names) > 1 and names[0] in {"*", "**"}:  # a pattern matches at any depth anyway
        del names[0]
    if not all(names):
        raise InvalidInput(
            f"{shown(pattern)} names no field to hide: write a name, or names joined by dots, "
            "as card or customer.name; * stands for any characters."
        )
    return tuple(re.compile(fnmatch.translate(name)) for name in names)


def _hidden(reported: Progress) -> Progress:
    """Return a report without its text, which may quote any value."""
    return reported._replace(text=reported.text and HIDDEN)

"""`durableq produce`: send JSON Lines, or the demo's orders, to a queue."""

from __future__ import annotations

import gzip
import os
import shlex
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from durableq.cli import jsonl, output
from durableq.cli.help import argument, option
from durableq.cli.jsonl import BadLine, Entry, Shape
from durableq.cli.options import DEMO_APP, DEMO_SEED, Session
from durableq.client.app import DurableQ
from durableq.client.handlers import load
from durableq.client.producer import Producer
from durableq.model.arguments import listed
from durableq.model.drafts import SendOptions, check_expiry
from durableq.model.errors import DurableQError, InvalidInput, NotFound, UnknownQueue
from durableq.model.flow.sending import SHED
from durableq.model.limits import MAX_BODY_BYTES, MAX_SEND_BATCH
from durableq.model.message import Draft
from durableq.model.text import visible
from durableq.model.units import due_ms, to_ms, wall_ms
from durableq.store.core import Capability, Store

DEMO_QUEUE: Final = "orders"
STDIN: Final = Path("-")
LINGER_SECONDS: Final = 0.05
BAD_LINES_SHOWN: Final = 20
#: Default of --max-bad.
MAX_BAD: Final = 10_000
#: JSON may escape a byte of a body in six characters: a line may be so much longer than a body.
ESCAPED: Final = 6
#: Bytes of an envelope besides the body.
SLACK_BYTES: Final = 1 << 20
_OF_FILE: Final = "Options of a FILE"
_OF_DEMO: Final = "Options of the demo's orders, without a FILE"
_FILE: Final = (
    "JSON Lines, packed by gzip or not; - is standard input. Without FILE, the demo's orders are "
    "sent."
)
_GZIP: Final = b"\x1f\x8b"
_ENVELOPE: Final = f"Each line is an object with {listed(jsonl.FIELDS)}."
_KEY_FIELD: Final = "Field of the body that holds the idempotency key."
_GROUP_FIELD: Final = "Field of the body that holds the group."
_SEED: Final = "Seed of the orders: equal seeds send equal orders."


@dataclass(frozen=True)
class LineOptions:
    """Options of a FILE: the meaning of its lines, and the handling of bad ones."""

    envelope: bool = option("--envelope", _ENVELOPE, False, _OF_FILE)
    key_field: str | None = option("--key-field FIELD", _KEY_FIELD, None, _OF_FILE)
    group_field: str | None = option("--group-field FIELD", _GROUP_FIELD, None, _OF_FILE)
    raw: bool = option("--raw", "Send the bytes of each line unchanged.", False, _OF_FILE)
    expires_in: float | None = option(
        "--expires-in SECONDS",
        "A message that has not succeeded by then expires; see queue set --on-expiry.",
        None,
        _OF_FILE,
        min=0.001,
        show_default="the queue's",
    )
    skip_bad: bool = option("--skip-bad", "Skip bad lines rather than stop.", False, _OF_FILE)
    max_bad: int | None = option(
        "--max-bad N",
        "With --skip-bad: stop after N bad lines in a row.",
        None,
        _OF_FILE,
        min=1,
        show_default=str(MAX_BAD),
    )

    def shape(self) -> Shape:
        """Return the function that reads a line.

        Raises:
            Misuse: the options exclude each other.
        """
        shape = self._shape()
        return shape if self.expires_in is None else jsonl.expiring(shape, self.expires_in)

    def _shape(self) -> Shape:
        """Return the function that reads a line as it is.

        Raises:
            Misuse: the options exclude each other.
        """
        fields: dict[Literal["key", "group"], str | None]
        fields = {"key": self.key_field, "group": self.group_field}
        for what, field in fields.items():
            if self.envelope and field is not None:
                raise output.Misuse(
                    f"An envelope names its own {what}: give --envelope or --{what}-field."
                )
        if self.envelope and self.raw:
            raise output.Misuse("An envelope is JSON, not the payload itself: --envelope or --raw.")
        named = {what: field for what, field in fields.items() if field is not None}
        if named:
            return jsonl.named_by(named, raw=self.raw)
        if self.raw:
            return jsonl.as_bytes
        return jsonl.as_envelope if self.envelope else jsonl.as_body


@dataclass(frozen=True)
class OrderOptions:
    """Options of the demo's orders."""

    count: int | None = option(
        "--count N", "Number of messages.", None, _OF_DEMO, min=1, show_default="200"
    )
    duplicates: float | None = option(
        "--duplicates SHARE",
        "Share of messages that repeat a key.",
        None,
        _OF_DEMO,
        min=0,
        max=0.99,
        show_default="0.25",
    )
    seed: int | None = option("--seed N", _SEED, None, _OF_DEMO, show_default="1")


class _Source(NamedTuple):
    """A file, standard input or the demo, as entries."""

    name: str
    entries: Iterable[Entry]
    #: Position of the end, in the unit of Entry.position; None if it is unknown.
    total: int | None


def produce(
    session: Session,
    file: Path | None = argument("FILE", _FILE, None),
    queue: str | None = option(
        "--queue QUEUE", "Destination.", None, show_default="orders, the demo's queue"
    ),
    batch_size: int = option(
        "--batch-size N", "Messages in one commit.", 100, min=1, max=MAX_SEND_BATCH
    ),
    rate: float | None = option(
        "--rate N", "Most messages per second.", None, min=0.001, show_default="no limit"
    ),
    *,
    lines: LineOptions,
    orders: OrderOptions,
) -> None:
    """Send each line of a file as a message.

    Each batch is one commit, and stays stored if the run ends early. The run ends at the first bad
    line; with --skip-bad bad lines are reported and counted. A line is also bad if it has a number
    that a double cannot hold, or an object with a name twice: no value is changed silently. Use
    --raw for payloads that are signed. A queue that the application declares is created, and the
    database with it, if they are missing.

    Example: durableq produce orders.jsonl --queue orders --key-field id
    """
    if file is None and lines != LineOptions(False, None, None, False, None, False, lines.max_bad):
        raise output.Misuse(
            "--envelope, --key-field, --group-field, --raw, --expires-in and --skip-bad are for a "
            "FILE, and none is given."
        )
    if lines.max_bad is not None and not lines.skip_bad:
        raise output.Misuse("--max-bad limits --skip-bad: add --skip-bad, or drop --max-bad.")
    if file is not None and orders != OrderOptions(None, None, None):
        raise output.Misuse("--count, --duplicates and --seed are for the demo, without a FILE.")
    shape = lines.shape()
    if queue is not None:
        _ensure_queue(session, queue)
    with session.opened(create=queue is None) as store:
        if queue is None:
            _ensure_demo_queue(store, session.url)
        bound = (lines.max_bad or MAX_BAD) if lines.skip_bad else None
        sending = _Sending(store, queue or DEMO_QUEUE, bound)
        longest = ESCAPED * sending.max_body_bytes + SLACK_BYTES
        with _read(file, shape, longest) if file else _traffic(orders) as source:
            _run(sending, source, batch_size, rate, as_json=session.as_json)


class _Sending:
    """The sink of a Producer, with the counts of one run."""

    def __init__(self, store: Store, queue: str, max_bad: int | None) -> None:
        self.queue = queue
        self.max_bad = max_bad
        self.sent = self.shed = self.skipped = self.commits = self._bad_in_a_row = 0
        self.bad_line: int | None = None
        self._store = store
        self._started = time.monotonic()
        self.max_body_bytes = store.settings(queue).max_body_bytes

    def commit(self, drafts: list[Draft]) -> list[str]:
        """Store a batch, or a part of it."""
        ids = self._store.send(self.queue, drafts)
        shed = ids.count(SHED)
        self.sent += len(ids) - shed
        self.shed += shed
        self.commits += 1
        return ids

    def take(self, entry: Entry, bad: InvalidInput | None) -> bool:
        """Count an entry, and report the first bad ones; return False if the run must stop."""
        if bad is None:
            self._bad_in_a_row = 0
            return True
        if self.max_bad is None:
            return False
        self.skipped += 1
        self._bad_in_a_row += 1
        if self.skipped <= BAD_LINES_SHOWN:
            output.error(f"Line {entry.number} was skipped: {bad}")
        return self._bad_in_a_row < self.max_bad

    def stop(self, entry: Entry, bad: InvalidInput) -> BadLine:
        """Return the error that ends the run at a bad line."""
        self.bad_line = entry.number
        why = f"Line {entry.number}: {bad}"
        if self.max_bad is not None:
            lines = _plural(self.max_bad, "bad line")
            why += f" That is {lines} in a row; --max-bad allows more."
        return BadLine(why)

    @property
    def so_far(self) -> str:
        """The counts of a run that ends early, in a sentence."""
        skipped = f"{_plural(self.skipped, 'bad line')} skipped"
        if self.shed:
            skipped = f"{self.shed:,} shed, {skipped}"
        if not self.sent:
            return (
                f"Nothing was sent, {skipped}."
                if self.skipped or self.shed
                else "Nothing was sent."
            )
        was, stay = ("was", "stays") if self.sent == 1 else ("were", "stay")
        words = f"{_plural(self.sent, 'message')} {was} sent before it and {stay} sent"
        return f"{words}; {skipped}." if self.skipped or self.shed else f"{words}."

    @property
    def counted(self) -> str:
        """The counts for the progress bar."""
        skipped = f", {self.skipped:,} skipped" if self.skipped else ""
        return f"{self.sent:,} sent{skipped}"

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        seconds = time.monotonic() - self._started
        return {
            "queue": self.queue,
            "sent": self.sent,
            "shed": self.shed,
            "skipped": self.skipped,
            "commits": self.commits,
            "seconds": round(seconds, 3),
            "per_second": round(self.sent / seconds, 1),
            "bad_line": self.bad_line,
        }

    def __str__(self) -> str:
        counts = self.as_dict()
        skipped = f", skipped {_plural(self.skipped, 'bad line')}" if self.skipped else ""
        shed = f", shed {self.shed:,} because it was full" if self.shed else ""
        return (
            f"Sent {_plural(self.sent, 'message')} to {self.queue}{shed}{skipped} in "
            f"{counts['seconds']:.2f} s ({counts['per_second']:,.0f} per second, "
            f"{_plural(self.commits, 'commit')})."
        )


def _run(
    sending: _Sending, source: _Source, batch_size: int, rate: float | None, *, as_json: bool
) -> None:
    producer = Producer(
        sending.commit,
        sending.max_body_bytes,
        batch_size=batch_size,
        linger=LINGER_SECONDS,
        max_bytes=MAX_BODY_BYTES,
    )
    stopped: tuple[Entry, InvalidInput] | None = None
    last: Entry | None = None
    try:
        with output.progress(source.name, source.total) as advance, producer:
            for entry in _paced(source.entries, rate):
                last = entry
                bad = entry.bad or _send(producer, entry)
                if not sending.take(entry, bad) and bad is not None:
                    stopped = entry, bad
                    break
                advance(entry.position, f"{source.name}: {sending.counted}")
        if stopped is not None:
            raise sending.stop(*stopped)  # after the producer has stored its last batch
        _conclude(sending, source)
        if sending.sent == 1 and last is not None and isinstance(last.body, list):
            split = f"{jsonl.SPLIT_ARRAY} FILE | durableq produce - --queue {sending.queue}"
            output.say(f"Its body is an array. To send each element of one: {split}")
    except KeyboardInterrupt:
        output.error(f"Interrupted. {sending.so_far}")
        raise
    except DurableQError as error:
        error.add_note(sending.so_far)
        raise
    finally:
        if as_json:
            output.document(sending.as_dict())


def _send(producer: Producer, entry: Entry) -> InvalidInput | None:
    """Give an entry to the producer; return the error of a bad one."""
    options = entry.options or {}
    try:
        _check_time(options, round(time.time() * 1000))
        producer.send(entry.body, **options)
    except InvalidInput as bad:
        return bad
    return None


def _check_time(options: SendOptions, now_ms: int) -> None:
    """Check the `at` of a message by the clock of this machine, where its line is still known.

    Raises:
        InvalidInput: it is too far ahead, or after the end of the message's `expires_in`.
    """
    at, expires_in = options.get("at"), options.get("expires_in")
    if at is not None:
        delay_ms = max(0, due_ms(0, wall_ms(at), now_ms) - now_ms)
        if expires_in is not None:
            check_expiry(delay_ms, to_ms(expires_in, "expires_in"))


def _conclude(sending: _Sending, source: _Source) -> None:
    unseen = sending.skipped - BAD_LINES_SHOWN
    if unseen > 0:
        output.error(f"{_plural(unseen, 'more line')} skipped.")
    if sending.sent or sending.shed or sending.skipped:
        output.say(str(sending))
    else:
        output.say(f"Nothing to send: {source.name} is empty.")


def _paced(entries: Iterable[Entry], rate: float | None) -> Iterator[Entry]:
    """Yield the entries, at most `rate` a second; time lost in a pause is not caught up."""
    due = time.monotonic()
    for entry in entries:
        if rate is not None:
            now = time.monotonic()
            if now < due:
                time.sleep(due - now)
            due = max(due, now) + 1 / rate
        yield entry


@contextmanager
def _read(file: Path, shape: Shape, longest: int) -> Iterator[_Source]:
    name = "standard input" if file == STDIN else str(file)
    with _open(file, name) as stream:
        if _is_packed(stream, name):
            with gzip.open(stream) as unpacked:
                lines: Any = unpacked
                yield _Source(name, jsonl.read(lines, name, longest, shape), None)
            return
        status = os.fstat(stream.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        yield _Source(name, jsonl.read(stream, name, longest, shape), total)


def _is_packed(stream: BufferedReader, name: str) -> bool:
    try:
        return stream.peek(len(_GZIP)).startswith(_GZIP)
    except OSError as error:
        raise DurableQError(f"{name} cannot be read: {error.strerror}.") from error


def _open(file: Path, name: str) -> BufferedReader:
    if file == STDIN and sys.stdin is None:
        raise DurableQError(f"{name} is closed. Give it a file, or name one instead of -.")
    try:
        if file == STDIN:
            return open(os.dup(0), "rb")
        return file.open("rb")
    except OSError as error:
        raise DurableQError(f"{name} cannot be read: {error.strerror}.") from error


@contextmanager
def _traffic(given: OrderOptions) -> Iterator[_Source]:
    from durableq.demo.traffic import COUNT, DUPLICATES, orders

    count = COUNT if given.count is None else given.count
    duplicates = DUPLICATES if given.duplicates is None else given.duplicates
    seed = DEMO_SEED if given.seed is None else given.seed
    output.say(f"Sending the demo's orders, seed {seed}. To send your own: durableq produce FILE")
    envelopes = orders(count, duplicates, seed)
    entries = (
        Entry(number, number, envelope["body"], {"key": envelope["key"]})
        for number, envelope in enumerate(envelopes, 1)
    )
    yield _Source("the demo's traffic", entries, count)


def _ensure_queue(session: Session, queue: str) -> None:
    """Let the application make a queue that it declares, and the database with it.

    Raises:
        NotFound: the database or the queue is missing, and no application declares the queue.
    """
    try:
        with session.opened() as store:
            store.settings(queue)
    except NotFound as error:
        if session.names_application:
            _, app = session.application()
            if queue in {*app.declared, *app.handlers, *app.policies}:
                with app:
                    _ = app.store  # declares its queues
                return
        if not isinstance(error, UnknownQueue):  # which says it already
            create = f"durableq queue create {shlex.quote(queue)}"
            error.add_note(f"`{visible(create, 200)}` makes both.")
        raise


def _ensure_demo_queue(store: Store, url: str) -> None:
    """Create the demo's queue with its settings, unless it exists."""
    try:
        store.require(Capability.INSPECT).queue(DEMO_QUEUE)
    except UnknownQueue:
        with load(DEMO_APP, DurableQ) as demo:
            demo.use(url)
            _ = demo.store


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"

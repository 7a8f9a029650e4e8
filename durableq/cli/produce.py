"""`durableq produce`: JSON Lines, or the demo's traffic, into a queue."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, NamedTuple

import typer

from durableq.cli import jsonl, output
from durableq.cli.jsonl import BadLine, Entry, Shape
from durableq.cli.options import DEMO_APP, DEMO_SEED, Db, Json, given, opened
from durableq.client.app import DurableQ
from durableq.client.handlers import load
from durableq.client.producer import Producer
from durableq.model.errors import Conflict, DurableQError, InvalidInput, UnknownQueue
from durableq.model.limits import MAX_BODY_BYTES, MAX_SEND_BATCH
from durableq.model.message import Draft
from durableq.store.core import Capability, Store

DEMO_QUEUE: Final = "orders"
STDIN: Final = Path("-")
LINGER_SECONDS: Final = 0.05
BAD_LINES_SHOWN: Final = 20
#: JSON may spell one byte of a stored body in six: a line is read up to so many times longer.
ESCAPED: Final = 6
#: What an envelope may hold besides the body.
SLACK_BYTES: Final = 1 << 20

File = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE|-", help="JSON Lines; - is standard input; without it, the demo's orders."
    ),
]
Into = Annotated[
    str | None,
    typer.Option(
        "--queue", callback=given, help="Where to; without it, the demo's queue `orders`."
    ),
]
Envelope = Annotated[
    bool,
    typer.Option("--envelope", help="A line has body, key, delay, priority and attributes."),
]
Raw = Annotated[
    bool, typer.Option("--raw", help="Send each line's bytes as they stand, as a body of bytes.")
]
KeyField = Annotated[
    str | None,
    typer.Option(metavar="NAME", callback=given, help="Take each key from this field of the body."),
]
BatchSize = Annotated[
    int, typer.Option(min=1, max=MAX_SEND_BATCH, help="Messages stored in one commit.")
]
Rate = Annotated[float | None, typer.Option(min=0.001, help="At most so many a second.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on after a line that is bad.")]
Count = Annotated[int | None, typer.Option(min=1, help="Demo: messages.  [default: 200]")]
Duplicates = Annotated[
    float | None,
    typer.Option(min=0, max=0.99, help="Demo: which part repeats a key.  [default: 0.25]"),
]
Seed = Annotated[int | None, typer.Option(help="Demo: which traffic.  [default: 1]")]


class _Source(NamedTuple):
    """Where the entries come from."""

    name: str
    entries: Iterable[Entry]
    #: How far it goes, in the unit of Entry.position.
    total: int | None


class _Sending:
    """One run: the store's side of a Producer, and the account of it."""

    def __init__(self, store: Store, queue: str) -> None:
        self.queue = queue
        self.sent = self.skipped = self.commits = 0
        self.bad_line: int | None = None
        self._store = store
        self._started = time.monotonic()
        self.max_body_bytes = store.settings(queue).max_body_bytes

    def commit(self, drafts: list[Draft]) -> list[str]:
        """Store a batch. What is wrong with it here is not the fault of the line read last."""
        try:
            ids = self._store.send(self.queue, drafts)
        except InvalidInput as error:
            raise Conflict(f"A batch could not be stored: {error}") from error
        self.sent += len(ids)
        self.commits += 1
        return ids

    def skip(self, entry: Entry, bad: InvalidInput) -> None:
        """Count a bad line, and report the first ones."""
        self.skipped += 1
        if self.skipped <= BAD_LINES_SHOWN:
            output.error(f"Line {entry.number} was skipped: {bad}")

    def stop(self, entry: Entry, bad: InvalidInput) -> BadLine:
        """Return the error that ends the run at a bad line."""
        self.bad_line = entry.number
        return BadLine(f"Line {entry.number}: {bad} {self.stays}")

    @property
    def stays(self) -> str:
        """What remains when the run ends early."""
        if not self.sent:
            return "Nothing was sent."
        was, stay = ("was", "stays") if self.sent == 1 else ("were", "stay")
        return f"{_plural(self.sent, 'message')} {was} sent before it and {stay} sent."

    def as_dict(self) -> dict[str, Any]:
        """Return the account as JSON."""
        seconds = time.monotonic() - self._started
        return {
            "queue": self.queue,
            "sent": self.sent,
            "skipped": self.skipped,
            "commits": self.commits,
            "seconds": round(seconds, 3),
            "per_second": round(self.sent / seconds, 1),
            "bad_line": self.bad_line,
        }

    def __str__(self) -> str:
        account = self.as_dict()
        skipped = f", skipped {_plural(self.skipped, 'bad line')}" if self.skipped else ""
        return (
            f"Sent {_plural(self.sent, 'message')} to {self.queue}{skipped} in "
            f"{account['seconds']:.2f} s ({account['per_second']:,.0f} per second, "
            f"{_plural(self.commits, 'commit')})."
        )


def produce(
    file: File = None,
    queue: Into = None,
    envelope: Envelope = False,
    key_field: KeyField = None,
    raw: Raw = False,
    batch_size: BatchSize = 100,
    rate: Rate = None,
    skip_bad: SkipBad = False,
    count: Count = None,
    duplicates: Duplicates = None,
    seed: Seed = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Send messages to a queue, one for each line of FILE.

    They are stored in batches, each in one commit, and what was stored stays. A bad line is named
    and ends the run; with --skip-bad it is reported and counted. A number that no double holds, and
    a name given twice, make a line bad: nothing is changed silently. --raw sends the bytes of each
    line as they stand, for payloads that are signed.

    Example: durableq produce orders.jsonl --queue orders --key-field id
    """
    demo = (count, duplicates, seed)
    if file is None and (envelope or raw or skip_bad or key_field is not None):
        raise output.Misuse(
            "--envelope, --key-field, --raw and --skip-bad are for a FILE, and none is given."
        )
    if file is not None and demo != (None, None, None):
        raise output.Misuse("--count, --duplicates and --seed are for the demo, without a FILE.")
    shape = _shape(envelope, key_field, raw)
    with opened(db, create=queue is None) as store:
        if queue is None:
            _ensure_demo_queue(store, db)
        sending = _Sending(store, queue or DEMO_QUEUE)
        longest = ESCAPED * sending.max_body_bytes + SLACK_BYTES
        with _read(file, shape, longest) if file else _traffic(*demo) as source:
            _run(sending, source, batch_size, rate, skip_bad=skip_bad, as_json=as_json)


COMMANDS: Final = (produce,)


def _shape(envelope: bool, key_field: str | None, raw: bool) -> Shape:
    """Return the function that reads a line.

    Raises:
        Misuse: the options exclude each other.
    """
    if envelope and key_field is not None:
        raise output.Misuse("An envelope names its own key: give --envelope or --key-field.")
    if envelope and raw:
        raise output.Misuse("An envelope is JSON, not the payload itself: --envelope or --raw.")
    if key_field is not None:
        return jsonl.keyed_by(key_field, raw=raw)
    if raw:
        return jsonl.as_bytes
    return jsonl.as_envelope if envelope else jsonl.as_body


def _run(
    sending: _Sending,
    source: _Source,
    batch_size: int,
    rate: float | None,
    *,
    skip_bad: bool,
    as_json: bool,
) -> None:
    producer = Producer(
        sending.commit,
        sending.max_body_bytes,
        batch_size=batch_size,
        linger=LINGER_SECONDS,
        max_bytes=MAX_BODY_BYTES,
    )
    stopped: tuple[Entry, InvalidInput] | None = None
    try:
        with output.progress(source.name, source.total) as advance, producer:
            for entry in _paced(source.entries, rate):
                bad = entry.bad or _send(producer, entry)
                if bad is not None and not skip_bad:
                    stopped = entry, bad
                    break
                if bad is not None:
                    sending.skip(entry, bad)
                advance(entry.position)
        if stopped is not None:
            raise sending.stop(*stopped)
        _conclude(sending, source)
    except KeyboardInterrupt:
        output.error(f"Interrupted. {sending.stays}")
        raise
    except DurableQError as error:
        if stopped is None:
            error.add_note(sending.stays)
        raise
    finally:
        if as_json:
            output.document(sending.as_dict())


def _send(producer: Producer, entry: Entry) -> InvalidInput | None:
    """Give an entry to the producer; return what is wrong with it, if anything is."""
    try:
        producer.send(entry.body, **(entry.options or {}))
    except InvalidInput as bad:
        return bad
    return None


def _conclude(sending: _Sending, source: _Source) -> None:
    unseen = sending.skipped - BAD_LINES_SHOWN
    if unseen > 0:
        output.error(f"{_plural(unseen, 'more line')} skipped.")
    if sending.sent or sending.skipped:
        output.say(str(sending))
    else:
        output.say(f"Nothing to send: {source.name} is empty.")


def _paced(entries: Iterable[Entry], rate: float | None) -> Iterator[Entry]:
    """Pass entries on, at most `rate` a second; a pause is not made up for."""
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
        status = os.fstat(stream.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        yield _Source(name, jsonl.read(stream, name, longest, shape), total)


def _open(file: Path, name: str) -> BinaryIO:
    if file == STDIN and sys.stdin is None:
        raise DurableQError(f"{name} is closed. Give it a file, or name one instead of -.")
    try:
        if file == STDIN:
            return open(os.dup(0), "rb")
        return file.open("rb")
    except OSError as error:
        raise DurableQError(f"{name} cannot be read: {error.strerror}.") from error


@contextmanager
def _traffic(count: int | None, duplicates: float | None, seed: int | None) -> Iterator[_Source]:
    from durableq.demo.traffic import COUNT, DUPLICATES, orders

    count = COUNT if count is None else count
    duplicates = DUPLICATES if duplicates is None else duplicates
    seed = DEMO_SEED if seed is None else seed
    output.say(f"Sending the demo's orders, seed {seed}. To send your own: durableq produce FILE")
    envelopes = orders(count, duplicates, seed)
    entries = (
        Entry(number, number, envelope["body"], {"key": envelope["key"]})
        for number, envelope in enumerate(envelopes, 1)
    )
    yield _Source("the demo's traffic", entries, count)


def _ensure_demo_queue(store: Store, db: str | None) -> None:
    """Make the demo's queue with the demo's settings, unless it is there with its own."""
    try:
        store.require(Capability.INSPECT).queue(DEMO_QUEUE)
    except UnknownQueue:
        with load(DEMO_APP, DurableQ) as demo:
            demo.use(DurableQ(db).url)
            _ = demo.store


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"

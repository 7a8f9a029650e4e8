"""Clients and workers walk at random over a FIFO queue and its dead-letter queue, beside a model.

An actor that crashes is one that does nothing more: its leases run out.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from durableq.model.dead_letters import RedriveState
from durableq.model.health import Level
from durableq.model.message import Completion, Failure, Message, Outcome, Reason
from durableq.serve.errors import ServiceError
from durableq.store.core import Capability, Store
from durableq.testing.fakes import FakeClock
from tests.contract.strategies import booleans
from tests.contract.test_random_walks import WALKS
from tests.serve.fifo_model import KEPT_MS, Attempt, Held, Letter, Queue
from tests.serve.sqs_client import Sqs, client_of
from tests.support import new_file

ARN = "arn:aws:sqs:us-east-1:000000000000:"
LIVE, DEAD = "q.fifo", "dead.fifo"
#: Of the messages that an actor has received, how many of the last are settled.
_REMEMBERED = 10
#: A walk takes 0.1 s of processor time.
EXAMPLES = settings().max_examples
queues = st.sampled_from([LIVE, LIVE, LIVE, DEAD])
groups = st.sampled_from(["a", "a", "a", "b", "c"])
deduplication = st.sampled_from([None, None, None, "d", "e"])
seconds_visible = st.sampled_from([0, 2, 5, 5, 20])
picks = st.lists(st.integers(0, _REMEMBERED - 1), min_size=1, max_size=5)
ENDED, GONE, HELD, STALE = "ended", "gone", "held", "stale"
_REFUSED = {ENDED, STALE}


class FifoWalk(RuleBasedStateMachine):
    """Messages are sent, received, deleted, returned, buried, moved back and purged."""

    received: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.stack, self.served = ExitStack(), ExitStack()
        folder = self.stack.enter_context(TemporaryDirectory())
        self.file = str(new_file(Path(folder, "queue.db"), FakeClock))
        self.clock = FakeClock()
        self.queues = {LIVE: Queue(), DEAD: Queue()}
        self.delays_ms = {LIVE: 0, DEAD: 0}
        #: Messages in private dead-letter queues, by failures of Python.
        self.elsewhere: list[Letter] = []
        self.held: list[Held] = []
        self.attempts: dict[tuple[str, str], Attempt] = {}
        self.sent: dict[tuple[str, ...], tuple[int, str, str]] = {}
        self.names, self.leases = map(str, count(1)), count(1)
        self.task = ""

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.served.close()
            self.stack.close()

    @property
    def now_ms(self) -> int:
        return self.clock.wall_ms()

    @property
    def store(self) -> Store:
        return self.sqs.app.store

    # ---- the queues

    @initialize(
        scope=st.sampled_from(["queue", "messageGroup"]), most=st.sampled_from([1, 2, 2, 3, 0])
    )
    def begin(self, scope: str, most: int) -> None:
        self.serve()
        self.scope = scope
        self.urls = {name: self.sqs.queue(name, DeduplicationScope=scope) for name in (DEAD, LIVE)}
        self.set_redrive_policy(most)
        self.send(LIVE, [("a", None), ("a", None), ("a", None), ("b", None)])

    @rule(
        queue=queues,
        what=st.sampled_from(["serve", "policy", "policy", "delay", "maintain", "purge"]),
        number=st.sampled_from([0, 0, 1, 2, 2, 3]),
    )
    def administer(self, queue: str, what: str, number: int) -> None:
        """Do one of what is done seldom."""
        if what == "serve":
            self.serve()
        elif what == "policy":
            self.set_redrive_policy(number)
        elif what == "delay":
            self.set_delay(queue, number)
        elif what == "maintain":
            self.store.require(Capability.MAINTENANCE).maintain()
        elif not number:
            self.purge(queue)

    def serve(self) -> None:
        """Start a server, or another one."""
        self.served.close()
        self.sqs: Sqs = self.served.enter_context(client_of(self.file, self.clock))

    def set_redrive_policy(self, most: int) -> None:
        policy = json.dumps({"deadLetterTargetArn": f"{ARN}{DEAD}", "maxReceiveCount": most})
        changed = {"RedrivePolicy": policy if most else ""}
        self.sqs("SetQueueAttributes", self.urls[LIVE], Attributes=changed)
        self.queues[LIVE].most = most

    def set_delay(self, queue: str, seconds: int) -> None:
        changed = {"DelaySeconds": str(seconds)}
        self.sqs("SetQueueAttributes", self.urls[queue], Attributes=changed)
        self.delays_ms[queue] = seconds * 1000

    def purge(self, queue: str) -> None:
        self.sqs("PurgeQueue", self.urls[queue])
        self.queues[queue].letters.clear()
        self.sent = {key: one for key, one in self.sent.items() if key[0] != queue}

    @rule(seconds=st.sampled_from([0.503, 1.511, 2.509, 6.521, 6.521, 31.527, 301.541]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # ---- sends

    @rule(queue=queues, batch=st.lists(st.tuples(groups, deduplication), min_size=1, max_size=6))
    def send(self, queue: str, batch: list[tuple[str, str | None]]) -> None:
        entries = []
        for group, given in batch:
            body = next(self.names)
            of_message = {"MessageGroupId": group, "MessageDeduplicationId": given or body}
            entries.append({"Id": body, "MessageBody": body, **of_message})
        if len(entries) == 1:
            entries[0].pop("Id")
            answered = [self.sqs("SendMessage", self.urls[queue], **entries[0])]
        else:
            found = self.sqs("SendMessageBatch", self.urls[queue], Entries=entries)
            answered = found["Successful"]
        for entry, answer in zip(entries, answered, strict=True):
            self._sent(queue, entry, answer["MessageId"], answer["SequenceNumber"])

    def _sent(self, queue: str, entry: dict[str, str], message_id: str, sequence: str) -> None:
        group, given = entry["MessageGroupId"], entry["MessageDeduplicationId"]
        key = (queue, given) if self.scope == "queue" else (queue, given, group)
        before = self.sent.get(key)
        if before is not None and self.now_ms < before[0] + KEPT_MS:
            assert before[1:] == (message_id, sequence)
            return
        self.sent[key] = self.now_ms, message_id, sequence
        due_ms = self.now_ms + self.delays_ms[queue]
        letter = Letter(entry["MessageBody"], group, message_id, sequence, due_ms)
        self.queues[queue].letters.append(letter)

    # ---- receives

    @rule(
        queue=queues,
        limit=st.sampled_from([1, 1, 2, 3, 10, 10]),
        seconds=seconds_visible,
        attempt=st.sampled_from(["", "", "", "x", "y"]),
        then=st.tuples(st.sampled_from(["", "delete", "return"]), picks),
    )
    def consume(
        self, queue: str, limit: int, seconds: int, attempt: str, then: tuple[str, list[int]]
    ) -> None:
        """Receive messages, and delete or return some of them."""
        received = self.receive(queue, limit, seconds, attempt)
        mine = [number % received for number in then[1] if received]
        if then[0] == "delete":
            self.delete(queue, mine, as_batch=True)
        elif then[0] == "return":
            self.change(queue, mine, [0] * 5, as_batch=True)

    def receive(self, queue: str, limit: int, seconds: int, attempt: str = "") -> int:
        dead, repeated = self._bodies(DEAD), self._repeated(queue, attempt)
        asked: dict[str, Any] = {"VisibilityTimeout": seconds, "AttributeNames": ["All"]}
        if attempt:
            asked["ReceiveRequestAttemptId"] = attempt
        found = self.sqs.receive(self.urls[queue], limit, **asked)
        bodies = [one["Body"] for one in found]
        until_ms = self.now_ms + (seconds * 1000 or 1)
        lease = repeated.lease if repeated else next(self.leases)
        if repeated:
            assert bodies == [one.body for one in repeated.letters]
            for letter in repeated.letters:
                letter.until_ms = until_ms
        else:
            self._deliver(queue, bodies, dead, limit, (lease, until_ms))
        letters = [self.queues[queue].by_body(body) for body in bodies]
        for letter, one in zip(letters, found, strict=True):
            assert letter.message_id in {"", one["MessageId"]}
            letter.message_id = one["MessageId"]
            if not repeated:
                self.queues[queue].number(letter, one["Attributes"]["SequenceNumber"])
            self.held.append(Held(queue, letter, lease, handle=one["ReceiptHandle"]))
        if attempt and letters:
            at_ms = repeated.at_ms if repeated else self.now_ms
            self.attempts[queue, attempt] = Attempt(at_ms, letters, lease, until_ms)
        self.clock.advance(0 if seconds else 0.002)
        return len(found)

    def _repeated(self, queue: str, attempt: str) -> Attempt | None:
        """Return the receive whose answer a repeated one gets again."""
        found = self.attempts.get((queue, attempt))
        if found is None or self.now_ms >= min(found.at_ms + KEPT_MS, found.until_ms):
            return None
        leases = {(one.lease, one.until_ms) for one in found.letters}
        are_there = all(one in self.queues[queue].letters for one in found.letters)
        return found if are_there and leases == {(found.lease, found.until_ms)} else None

    @rule(queue=queues, limit=st.sampled_from([1, 2, 10]), seconds=seconds_visible, by=booleans)
    def work(self, queue: str, limit: int, seconds: int, *, by: bool) -> None:
        """Receive as a worker of Python: heads of groups, or a batch of one group."""
        dead, visible_ms = self._bodies(DEAD), seconds * 1000 or 1
        received = self.store.receive(queue, limit, visibility_ms=visible_ms, by_group=by)
        found: list[Message] = received.messages
        lease, bodies = next(self.leases), [str(one.body) for one in found]
        has_all = by and bool(found)  # of one group, as far as it goes
        terms = lease, self.now_ms + visible_ms
        self._deliver(queue, bodies, dead, len(found) if has_all else limit, terms, fills=False)
        for one in found:
            letter = self.queues[queue].by_body(str(one.body))
            self.held.append(Held(queue, letter, lease, receipt=one.receipt))
        self.clock.advance(0 if seconds else 0.002)

    def _deliver(
        self,
        queue: str,
        bodies: Sequence[str],
        dead: Iterable[str],
        limit: int,
        terms: tuple[int, int],
        *,
        fills: bool = True,
    ) -> None:
        """Let the model follow a receive, which may have buried messages."""
        model = self.queues[queue]
        buried = model.bury({*self._bodies(DEAD)} - {*dead}, self.now_ms)
        model.deliver(bodies, self.now_ms, *terms)
        FifoWalk.received += len(bodies)
        if len(bodies) < limit:
            full = {model.by_body(body).group for body in bodies}
            passed = {one.group for one in buried} | (set() if fills else full)
            model.check_rest(passed, terms[0], self.now_ms)
        for one in buried:
            one.arrive()
            self.queues[DEAD].letters.append(one)

    # ---- ends of leases

    def _picked(self, numbers: Iterable[int], queue: str, *, of_python: bool) -> list[Held]:
        mine = [one for one in self.held if (one.receipt is not None) == of_python]
        last = [one for one in mine if one.queue == queue][: -_REMEMBERED - 1 : -1]
        return [*dict.fromkeys(last[number % len(last)] for number in numbers if last)]

    def _state(self, one: Held) -> str:
        letter = one.letter
        there = [each for queue in self.queues.values() for each in queue.letters]
        if letter not in there and letter not in self.elsewhere:
            return GONE
        if letter not in self.queues[one.queue].letters or letter.lease != one.lease:
            return STALE
        return HELD if letter.is_held(self.now_ms) else ENDED

    @rule(queue=queues, numbers=picks, as_batch=booleans)
    def delete(self, queue: str, numbers: list[int], *, as_batch: bool) -> None:
        held = self._picked(numbers if as_batch else numbers[:1], queue, of_python=False)
        if not held:
            return
        before = [self._state(one) for one in held]
        refused = self._settle("DeleteMessage", held, [{}] * len(held), as_batch=as_batch)
        for one, state in zip(held, before, strict=True):
            if state == HELD and self._state(one) == HELD:  # it may come twice
                self.queues[queue].letters.remove(one.letter)
        for one, state, is_refused in zip(held, before, refused, strict=True):
            # An old handle beside a good one of the same message is told either.
            is_either = state == STALE and self._state(one) == GONE
            assert is_either or is_refused == (state in _REFUSED), (state, one)

    @rule(
        queue=queues,
        numbers=picks,
        seconds=st.lists(st.sampled_from([0, 0, 1, 5, 30]), min_size=5, max_size=5),
        as_batch=booleans,
    )
    def change(self, queue: str, numbers: list[int], seconds: list[int], *, as_batch: bool) -> None:
        held = self._picked(numbers if as_batch else numbers[:1], queue, of_python=False)
        more = [{"VisibilityTimeout": each} for each in seconds[: len(held)]]
        refused = self._settle("ChangeMessageVisibility", held, more, as_batch=as_batch)
        for one, each, is_refused in zip(held, seconds, refused, strict=False):
            assert is_refused == (self._state(one) != HELD), one
            if is_refused:
                continue
            one.letter.until_ms = self.now_ms + each * 1000
            if not each:
                one.letter.let_go()

    def _settle(
        self, action: str, held: Sequence[Held], more: Iterable[Any], *, as_batch: bool
    ) -> list[bool]:
        """Call an action for messages; return which were refused."""
        if not held:
            return []
        url = self.urls[held[0].queue]
        entries: list[dict[str, Any]] = [
            {"Id": str(place), "ReceiptHandle": one.handle, **each}
            for place, (one, each) in enumerate(zip(held, more, strict=True))
        ]
        if as_batch:
            answer = self.sqs(f"{action}Batch", url, Entries=entries)
            failed = {int(one["Id"]) for one in answer.get("Failed", [])}
            return [place in failed for place in range(len(held))]
        entries[0].pop("Id")
        try:
            self.sqs(action, url, **entries[0])
        except ServiceError:
            return [True]
        return [False]

    @rule(
        queue=queues,
        numbers=picks,
        ways=st.lists(
            st.sampled_from(["complete", "complete", "fail", "reject", "release", "extend"]),
            min_size=5,
            max_size=5,
        ),
    )
    def settle(self, queue: str, numbers: list[int], ways: list[str]) -> None:
        """Settle as a worker of Python: completions and failures in one transaction."""
        by: dict[str, list[Held]] = {way: [] for way in ways}
        for one, way in zip(self._picked(numbers, queue, of_python=True), ways, strict=False):
            by[way].append(one)
        receipts = {way: [one.receipt for one in held if one.receipt] for way, held in by.items()}
        failures = [
            (receipt, Failure(reason, "E", "no"))
            for way, reason in (("fail", Reason.HANDLER_ERROR), ("reject", Reason.REJECTED))
            for receipt in receipts.get(way, [])
        ]
        done = [Completion(receipt) for receipt in receipts.get("complete", [])]
        outcomes = self.store.settle(done, failures)
        outcomes += self.store.release(receipts.get("release", []))
        outcomes += self.store.extend(receipts.get("extend", []), 4_000)
        order = ("complete", "fail", "reject", "release", "extend")
        settled = [(one, way) for way in order for one in by.get(way, [])]
        for (one, way), outcome in zip(settled, outcomes, strict=True):
            self._settled(one, way, outcome)

    def _settled(self, one: Held, way: str, outcome: Outcome) -> None:
        state, letter, model = self._state(one), one.letter, self.queues[one.queue]
        is_refused = outcome in {Outcome.STALE, Outcome.GONE}
        assert state == ENDED or is_refused == (state != HELD), (outcome, way, state, one)
        if is_refused:
            return
        if way == "extend":
            letter.until_ms = self.now_ms + 4_000
            return
        letter.let_go()
        if outcome is Outcome.BURIED:
            model.letters.remove(letter)
            letter.arrive()
            (self.queues[DEAD].letters if model.most else self.elsewhere).append(letter)
        elif way == "complete":
            model.letters.remove(letter)
        else:
            letter.receives -= way == "release"
            letter.may_wait = way == "fail" or not letter.receives

    # ---- moves

    @precondition(lambda self: self.task or (self.queues[LIVE].most and self.queues[DEAD].letters))
    @rule(limit=st.sampled_from([1, 1, 2, 100]))
    def move(self, limit: int) -> None:
        """Start to move dead letters, or go on."""
        redrive = self.store.require(Capability.REDRIVE)
        if not self.task:
            arns = {"SourceArn": f"{ARN}{DEAD}", "DestinationArn": f"{ARN}{LIVE}"}
            self.sqs("StartMessageMoveTask", **arns)
            self.task = redrive.redrive_tasks()[0].id
            return
        before = {*self._bodies(LIVE)}
        task = redrive.continue_redrive(self.task, limit)
        assert task.state in {RedriveState.RUNNING, RedriveState.DONE}
        self.task = self.task if task.state is RedriveState.RUNNING else ""
        moved, dead = {*self._bodies(LIVE)} - before, self.queues[DEAD]
        for group in dead.groups:
            letters = dead.of_group(group)
            gone = [one for one in letters if one.body in moved]
            assert gone == letters[: len(gone)], f"{gone} were moved out of turn: {letters}"
            for one in gone:
                assert not one.is_held(self.now_ms)
                dead.letters.remove(one)
                one.arrive()
                one.message_id = ""
                self.queues[LIVE].letters.append(one)

    # ---- what holds at any time

    def _bodies(self, queue: str) -> list[str]:
        found = self.store.require(Capability.INSPECT).peek(queue, 1_000)
        return [str(one.body) for one in found]

    @invariant()
    def all_messages_are_there(self) -> None:
        for name, queue in self.queues.items():
            assert sorted(self._bodies(name)) == sorted(one.body for one in queue.letters)

    @invariant()
    def the_audit_finds_nothing(self) -> None:
        found = self.store.require(Capability.MAINTENANCE).orphans()
        assert [one for one in found if one.level is not Level.OK] == []

    def drain(self) -> None:
        """Receive and delete all that is left, each queue in order."""
        while any(queue.letters for queue in self.queues.values()):
            before = FifoWalk.received
            self.clock.advance(100)
            for queue in (LIVE, DEAD):
                self.receive(queue, 10, 20)
                self.delete(queue, [*range(_REMEMBERED)], as_batch=True)
            assert FifoWalk.received > before or self.queues[DEAD].letters


def test_clients_and_workers_of_a_fifo_queue_meet_the_model() -> None:
    before = FifoWalk.received
    run_state_machine_as_test(FifoWalk, settings=settings(WALKS, max_examples=EXAMPLES))
    assert FifoWalk.received > before

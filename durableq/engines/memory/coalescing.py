"""The facts that decide about a send, and the messages that it replaces."""

from __future__ import annotations

from collections.abc import Iterable

from durableq.engines.memory import groups
from durableq.engines.memory.flow import MemoryFlow
from durableq.engines.memory.tables import Row
from durableq.model import codec
from durableq.model.drafts import Draft, DraftFlow, expires_at_ms
from durableq.model.flow.sending import Backlog, Facts, Plan, Waiting
from durableq.model.message import Event, State
from durableq.model.settings import QueueSettings


class MemoryCoalescing(MemoryFlow):
    """Backlog limits, deduplication ids, and messages that wait with a replace_key."""

    def _backlog(self, queue: str) -> Backlog:
        """Return what a queue stores and may store."""
        settings, sizes = self._queue(queue).settings, self._tables.sizes_in(queue)
        return Backlog(
            len(sizes),
            sum(sizes),
            settings.max_backlog,
            settings.max_backlog_bytes,
            settings.on_full,
            settings.block_timeout_ms,
        )

    def _send_facts(self, queue: str, flows: Iterable[DraftFlow]) -> Facts:
        now_ms = self._clock.now_ms()
        sent = {
            name: int(message_id)
            for (of_queue, name), (message_id, until_ms) in self._tables.sent.items()
            if of_queue == queue and until_ms > now_ms
        }
        keys = {flow.replace_key for flow in flows if flow.replace_key is not None}
        waiting = {key: self._waiting(queue, key) for key in keys}
        return Facts(self._backlog(queue), now_ms, sent, waiting)

    def _waiting(self, queue: str, replace_key: str) -> list[Waiting]:
        return [
            Waiting(int(row.id), codec.size(row.draft.body), row.debounce_until_ms)
            for row in self._tables.in_queue(queue)
            if row.state is not State.IN_FLIGHT
            and row.source_queue is None
            and row.draft.flow is not None
            and row.draft.flow.replace_key == replace_key
        ]

    def _carry_out(self, queue: str, made: Plan) -> None:
        """Count a planned send, end the messages that it replaces, and remember its ids."""
        now_ms = self._clock.now_ms()
        self._count(queue, sent=len(made.stored), shed=made.shed, deduplicated=made.deduplicated)
        for number, newer in made.replaced.items():
            message_id = str(number)
            self._note(message_id, queue, Event.REPLACED, detail={"by": str(newer)})
            if message_id in self._tables.rows:
                self._end(self._tables.rows[message_id], "replaced")
            else:  # by a later one of the same send
                self._count(queue, replaced=1)
        window_ms = self._queue(queue).settings.deduplication_window_ms
        for name, number in made.remembered.items():
            self._tables.sent[queue, name] = str(number), now_ms + window_ms

    def _store(
        self,
        queue: str,
        number: int,
        draft: Draft,
        settings: QueueSettings,
        debounced: tuple[int, int] | None,
    ) -> None:
        self._last_id = max(self._last_id, number)
        message_id, now_ms = str(number), self._clock.now_ms()
        delay_ms = settings.delay_ms if draft.delay_ms is None else draft.delay_ms
        due_ms, until_ms = debounced or (now_ms + delay_ms, 0)
        waiting = (State.DELAYED, due_ms) if due_ms > now_ms else (State.READY, 0)
        ends = expires_at_ms(draft.flow, now_ms, delay_ms, settings.expires_in_ms)
        row = Row(message_id, queue, draft, now_ms, now_ms, *waiting, expires_at_ms=ends)
        row = row._replace(debounce_until_ms=until_ms)
        entered = groups.enter(self._tables, row, now_ms, self._clock.lease_ms())
        self._tables.rows[message_id] = entered

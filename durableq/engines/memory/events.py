"""The history of all messages, in the order in which it was written."""

from __future__ import annotations

from durableq.engines.memory.base import MemoryBase, query
from durableq.model.info import ALL_EVENTS, HistoryFilter, HistoryMark, HistoryPage
from durableq.model.limits import LOOKED_BACK, SEARCHED
from durableq.model.message import HistoryEvent
from durableq.model.units import check_whole

_Numbered = tuple[int, HistoryEvent]


class MemoryEvents(MemoryBase):
    """The events of the capability of inspection."""

    @query
    def events(
        self, after: str = "", limit: int = 1000, wanted: HistoryFilter = ALL_EVENTS
    ) -> HistoryPage:
        """Return the next events of all messages."""
        last = HistoryMark.parse(after)
        check_whole(limit, "The limit of a page of events", 1, SEARCHED)
        looked_at, found = 0, list[HistoryEvent]()
        for number, event in self._numbered(wanted):
            if number <= last.id:
                continue
            if len(found) == limit or looked_at == SEARCHED:
                break
            looked_at += 1
            last = HistoryMark(number, event.at_ms)
            if wanted.fits(event):
                found.append(event)
        return HistoryPage(found, str(last))

    @query
    def mark_before(self, number: int, wanted: HistoryFilter = ALL_EVENTS) -> str:
        """Return the mark before the last events."""
        check_whole(number, "The number of the last events", 0, LOOKED_BACK)
        for at, (place, event) in enumerate(reversed(self._numbered(wanted))):
            if not number or at == LOOKED_BACK:
                return str(HistoryMark(place, event.at_ms))
            number -= wanted.fits(event)
        return ""

    @query
    def mark_since(self, since_ms: int) -> str:
        """Return the mark before the events since a time."""
        since_ms, mark = self._clock.of_wall(since_ms), HistoryMark()
        for number, event in self._numbered(ALL_EVENTS):
            if event.at_ms >= since_ms:
                break
            mark = HistoryMark(number, event.at_ms)
        return str(mark)

    def _numbered(self, wanted: HistoryFilter) -> list[_Numbered]:
        """Return all events in their order, with their numbers; check the queues of a filter."""
        for name in wanted.queues:
            self._queue(name)
        tables = self._tables
        numbered = [
            pair
            for name, events in tables.history.items()
            for pair in zip(tables.event_numbers[name], events, strict=True)
        ]
        return sorted(numbered, key=lambda pair: pair[0])

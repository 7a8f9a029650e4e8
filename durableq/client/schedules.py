"""Registration of schedules, with or without a handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from durableq.client.by_type import ATTRIBUTE
from durableq.client.handlers import Handlers
from durableq.model.codec import Json
from durableq.model.errors import InvalidInput
from durableq.model.limits import CATCH_UP
from durableq.model.schedules import Schedule, schedule_of
from durableq.model.text import shown
from durableq.model.units import Seconds
from durableq.runtime.cron import checked_timing

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Registrations(Handlers):
    """The handlers and the schedules of one application."""

    def __init__(self) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}

    def every(
        self,
        timing: str | timedelta,
        name: str = "",
        *,
        queue: str | None = None,
        tz: str | None = None,
        catch_up: str = "latest",
        catch_up_limit: int = CATCH_UP,
        body: Json = None,
        attributes: Mapping[str, str | int | float] | None = None,
        priority: int = 0,
        group: str | None = None,
        expires_in: Seconds | None = None,
        type: str | None = None,
    ) -> Callable[[_Function], _Function]:
        """Send a message for each slot of a schedule; the decorated function handles them.

        One message is sent for a slot, by one of all workers that have the schedule in their code.
        Its key is that of the slot (`nightly@2026-11-30T03:00:00Z`), its attributes are `schedule`
        and `slot`. Without a function to decorate, the messages are for another handler of the
        queue: `dq.every("@hourly", "tick", queue="orders")`.

        Args:
            timing: a cron expression of five fields; @hourly, @daily, @weekly, @monthly or @yearly;
                or a timedelta of whole seconds, whose slots are its multiples since 1970.
            name: the name of the schedule.
            queue: the queue; None for one with the name of the schedule. It is created if missing.
            tz: the time zone of the expression, as in "Europe/Berlin"; None for UTC. With
                fixed minutes and hours, a local time that does not exist comes at the end of the
                gap, and one that exists twice comes once. With a star in front of minutes or hours
                the slots go on in real time.
            catch_up: the rule about slots that no worker has sent in time, because none ran:
                "latest" sends the newest of them, "all" sends all, at most `catch_up_limit`,
                and "none" sends one that is at most a minute late.
            catch_up_limit: 1 to MAX_CATCH_UP.
            body: of each message, a JSON value.
            attributes: of each message, at most 8.
            priority: as for send.
            group: as for send.
            expires_in: as for send.
            type: the attribute `type` of each message, and of the handler's messages: for several
                handlers in one queue.

        Raises:
            InvalidInput: no expression, one that never comes, a time zone that does not exist, a
                schedule of that name, or a number out of bounds; nothing is stored. Or the function
                cannot be a handler: the schedule stands by then.
            InvalidBody: the body is no JSON value.
        """
        _check_called(timing)
        checked, zone = checked_timing(timing, tz)
        schedule = schedule_of(
            name,
            name if queue is None else queue,
            checked,
            zone,
            catch_up=catch_up,
            catch_up_limit=catch_up_limit,
            body=body,
            attributes=attributes if type is None else _with_type(attributes, type),
            priority=priority,
            group=group,
            expires_in=expires_in,
        )
        self._add_schedule(schedule)

        def register(function: _Function) -> _Function:
            return self.handler(schedule.queue, type=type)(function)

        return register

    def _add_schedule(self, schedule: Schedule) -> None:
        """Add a schedule.

        Raises:
            InvalidInput: there is one of its name.
        """
        if (name := schedule.name) in self.schedules:
            raise InvalidInput(f"There is a schedule {name!r} already: give this one another name.")
        self.schedules[name] = schedule


def _check_called(timing: object) -> None:
    """Check that `every` is called, and not used as a decorator itself.

    Raises:
        InvalidInput: it is not.
    """
    if callable(timing):
        raise InvalidInput(
            'Say when, and name the schedule: @dq.every("0 3 * * *", "nightly"), not @dq.every.'
        )


def _with_type(attributes: object, type_name: object) -> Any:
    """Return attributes with that of a type.

    Raises:
        InvalidInput: the type is no text, or they have another one.
    """
    if not isinstance(type_name, str) or not type_name:
        raise InvalidInput(f"type is the text of an attribute of messages, got {shown(type_name)}.")
    if attributes is None:
        return {ATTRIBUTE: type_name}
    if not isinstance(attributes, Mapping):
        return attributes  # refused as those of a send are
    if ATTRIBUTE in attributes:
        raise InvalidInput("type and the attribute 'type' are one: give type alone.")
    return {**attributes, ATTRIBUTE: type_name}

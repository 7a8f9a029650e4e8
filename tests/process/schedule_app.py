"""An application with a schedule of each second, whose first three workers die while they fire."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

from durableq import Delivery, DurableQ
from durableq.engines.sql import schedules
from tests.process.app import Ledger
from tests.process.schedule_points import NAME, POINTS

dq = DurableQ()


def die_once(point: str) -> None:
    ledger = Ledger(dq.url)
    if ledger.first(point):
        ledger.note("dies", point)
        os.kill(os.getpid(), signal.SIGKILL)


def plant() -> None:
    """Let processes die inside the transaction of a slot, and behind it."""
    module: Any = schedules
    save, fire = schedules._save, schedules.SQLSchedules.fire_schedule

    def saved(*of: Any) -> None:
        die_once(POINTS[0])
        save(*of)
        die_once(POINTS[1])

    def fired(*of: Any) -> Any:
        answer = fire(*of)
        if answer.slots:
            die_once(POINTS[2])
        return answer

    module._save = saved
    module.SQLSchedules.fire_schedule = fired


@dq.every(timedelta(seconds=1), NAME, catch_up="all", catch_up_limit=1000)
def tick(message: Delivery) -> None:
    Ledger(dq.url).note("tick", f"{message.attributes['slot']}/{message.id}")


plant()

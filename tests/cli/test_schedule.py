"""`durableq schedule`, and schedules in `status`, `events`, `explain` and `doctor`."""

from __future__ import annotations

import pytest

from durableq import DurableQ
from durableq.model.info import WorkerInfo
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import this_process
from durableq.testing import FakeClock
from tests.cli.console import Run, Shop

HOUR_SECONDS = 3600


@pytest.fixture
def planned(shop: Shop) -> Shop:
    """A shop with a schedule of each hour and one of each day, into `orders`."""
    shop.dq.every("@hourly", "tidy", queue="orders", body={"do": "tidy"})
    shop.dq.every("0 3 * * *", "nightly", queue="orders", tz="Europe/Berlin")
    _ = shop.store
    return shop


def register(store: Store, *names: str) -> None:
    """Register this process as a worker with these schedules."""
    me = this_process("worker-1")
    fleet = store.require(Capability.FLEET)
    fleet.register(
        WorkerInfo(
            me.name,
            me.pid,
            me.created_ms,
            me.boot_id,
            me.pid_namespace,
            host_id=me.host_id,
            queues=("orders",),
            schedules=names,
        )
    )


def test_schedules_are_listed_with_their_states(run: Run, planned: Shop) -> None:
    register(planned.store, "tidy")
    planned.dq.close()
    listed = run("schedule", "list")
    assert "2 schedules." in listed.err
    nightly, tidy = listed.out.splitlines()[1:]
    assert "0 3 * * * Europe/Berlin" in nightly
    assert "orphaned" in nightly
    assert "waits" in tidy
    rows = run("schedule", "list", "--json").rows
    assert [(row["name"], row["state"], row["workers"]) for row in rows] == [
        ("nightly", "orphaned", 0),
        ("tidy", "waits", 1),
    ]


def test_a_schedule_is_shown_with_its_next_slots_in_its_zone(run: Run, planned: Shop) -> None:
    planned.dq.close()
    shown = run("schedule", "show", "nightly")
    assert shown.out.count("T03:00:00+0") == 5
    document = run("schedule", "show", "tidy", "--json").json
    assert document["body"] == {"do": "tidy"}
    assert len(document["next_slots"]) == 5
    assert document["next_slots"][0].endswith(":00:00+00:00")


def test_a_schedule_is_paused_and_resumed(run: Run, planned: Shop) -> None:
    planned.dq.close()
    assert run("schedule", "pause", "tidy").out == "tidy is paused.\n"
    assert run("schedule", "list", "--json").rows[1]["state"] == "paused"
    assert "schedule tidy" in run("status").out
    resumed = run("schedule", "resume", "tidy")
    assert resumed.out.startswith("tidy: the next slot is 20")


def test_a_schedule_is_run_now_and_its_message_explained(run: Run, planned: Shop) -> None:
    planned.dq.close()
    sent = run("schedule", "run", "tidy", "--json").json
    assert (sent["name"], sent["queue"]) == ("tidy", "orders")
    explained = run("explain", sent["message_id"]).out
    assert "It was sent by schedule tidy, as a person asked" in explained
    told = run("events", "--json").rows[-1]
    assert told["event"] == "schedule"
    assert told["detail"] == {"schedule": "tidy", "action": "run"}
    assert "tidy run [person" in run("events").out


def test_a_message_that_is_shed_is_no_message_sent(run: Run, planned: Shop) -> None:
    planned.dq.queue("orders", max_backlog=1, on_full="shed").send("a")
    planned.dq.close()
    refused = run("schedule", "run", "tidy")
    assert (refused.code, refused.out) == (5, "")
    assert "its on_full is shed, so the message of tidy was dropped" in refused.err


def test_a_message_of_a_slot_is_explained(run: Run, shop: Shop) -> None:
    clock = FakeClock()
    shop.dq.close()
    with DurableQ(shop.path, clock=clock) as dq:
        dq.every("@hourly", "tidy", queue="orders")
        schedules = dq.store.require(Capability.SCHEDULES)
        clock.advance(HOUR_SECONDS)
        schedules.fire_schedule("tidy")
    assert (
        "It was sent by schedule tidy, for its slot 2023-11-14T23:00:00Z."
        in run("explain", "1").out
    )


def test_a_removed_schedule_is_gone(run: Run, planned: Shop) -> None:
    register(planned.store, "tidy")
    planned.dq.close()
    assert run("schedule", "remove", "nightly").out == "Removed schedule nightly.\n"
    assert "stores it again" in run("schedule", "remove", "tidy").out
    assert run("schedule", "list", "--json").rows == []


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "run", "remove"])
def test_an_unknown_schedule_is_refused(run: Run, shop: Shop, verb: str) -> None:
    shop.dq.close()
    refused = run("schedule", verb, "nope")
    assert refused.code == 3
    assert "There is no schedule 'nope'" in refused.err


def test_status_has_a_line_for_each_schedule(run: Run, planned: Shop) -> None:
    planned.dq.close()
    out = run("status").out
    assert "schedule nightly  no worker, next slot 20" in out
    schedules = run("status", "--json").json["schedules"]
    assert [one["name"] for one in schedules] == ["nightly", "tidy"]


def test_doctor_warns_of_late_and_orphaned_schedules(run: Run, shop: Shop) -> None:
    clock = FakeClock()  # long ago: by the clock of doctor its slot is due
    shop.dq.close()
    with DurableQ(shop.path, clock=clock) as dq:
        dq.every("@hourly", "tidy", queue="orders")
        _ = dq.store
        found = run("doctor").out
        assert "schedule 'tidy' is late, as no worker runs" in found
        register(dq.store)
        found = run("doctor").out
        assert "no running worker has schedule 'tidy' in its code" in found
        assert "durableq schedule remove tidy" in found
        register(dq.store, "tidy")
        assert "schedule 'tidy' is late: its next slot is due for" in run("doctor").out

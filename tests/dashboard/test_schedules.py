"""The schedules are shown, and paused, resumed and run now, on both engines."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from durableq import DurableQ
from durableq.dashboard.redaction import HIDDEN, Redaction
from durableq.store.core import Capability
from durableq.supervisor.liveness import this_process
from tests.dashboard.client import Client


def plan(dq: DurableQ) -> None:
    """Make a schedule, of which a worker has one."""
    dq.every("0 3 * * *", "nightly", queue="orders", tz="Europe/Berlin", body={"card": "4711"})
    dq.every("@hourly", "tidy", queue="orders")
    worker = replace(this_process("worker-1"), queues=("orders",), schedules=("tidy",))
    dq.store.require(Capability.FLEET).register(worker)


def test_schedules_are_shown_with_their_states(either: DurableQ) -> None:
    with Client.of(either) as client:
        assert "There is none." in client.page("/schedules").text
        plan(either)
        text = client.page("/schedules").text
    assert "orphaned 0 3 * * * Europe/Berlin orders" in text
    assert "no running worker has schedule 'nightly' in its code" in text
    assert "tidy waits 0 * * * * orders" in text


def test_a_schedule_is_paused_resumed_and_run_now(
    either: DurableQ, caplog: pytest.LogCaptureFixture
) -> None:
    plan(either)
    schedules = either.store.require(Capability.SCHEDULES)
    with Client.of(either) as client, caplog.at_level(logging.INFO, "durableq.dashboard"):
        assert "Schedule tidy is paused." in client.act("/schedules/tidy/pause").text
        assert schedules.schedule("tidy").paused
        assert "Schedule tidy goes on." in client.act("/schedules/tidy/resume").text
        assert not schedules.schedule("tidy").paused
        ran = client.act("/schedules/tidy/run")
        assert "Schedule tidy has sent message" in ran.text
        assert client.act("/schedules/none/run").status == 404
    events = either.store.require(Capability.INSPECT).events().events
    told = [(one.detail["action"], one.actor) for one in events if "action" in one.detail]
    assert told[2:] == [(action, "dashboard") for action in ("paused", "resumed", "run")]
    assert len(caplog.records) == 3


def test_a_message_that_is_shed_is_no_message_sent(either: DurableQ) -> None:
    plan(either)
    either.queue("orders", max_backlog=1, on_full="shed").send("a")
    with Client.of(either) as client:
        refused = client.act("/schedules/tidy/run")
    assert refused.status == 409
    assert "its on_full is shed, so the message of tidy was dropped" in refused.text


def test_a_read_only_dashboard_changes_no_schedule(either: DurableQ) -> None:
    plan(either)
    with Client.of(either, read_only=True) as client:
        page = client.page("/schedules")
        assert "Pause" not in page.text
        assert client.act("/schedules/tidy/pause").status == 404
    assert not either.store.require(Capability.SCHEDULES).schedule("tidy").paused


def test_the_body_of_a_schedule_has_no_hidden_fields(dq: DurableQ) -> None:
    plan(dq)
    store = Redaction(["card"]).store(dq.store).require(Capability.SCHEDULES)
    nightly = store.schedules()[0]
    assert nightly == store.schedule("nightly")
    assert nightly.schedule.body == f'{{"card":"{HIDDEN}"}}'
    assert "4711" not in str(store.pause_schedule("nightly", paused=True))

"""`durableq breaker`, and the circuit breaker in `status`, `explain` and `doctor`."""

from __future__ import annotations

import pytest

from durableq import Conflict, Unavailable
from durableq.model.flow.breaker import Phase
from tests.cli.console import Run, Shop
from tests.cli.findings import findings

DOWN = "message 1 raised Unavailable: the bank is down"


@pytest.fixture
def down(shop: Shop) -> Shop:
    """A shop whose bank is down, as its first order has found."""
    shop.store.declare_queue("orders", {"breaker": 1, "breaker_open_ms": 300_000})
    shop.queue.send_many(["a", "b"])
    [first] = shop.queue.receive(1)
    first.fail(Unavailable("the bank is down"))
    return shop


@pytest.mark.usefixtures("down")
def test_show_tells_the_phase_the_reason_and_the_changes(run: Run) -> None:
    shown = run("breaker", "show")
    assert shown.lines[0].split() == ["QUEUE", "BREAKER", "FOR", "PROBES", "IN", "TRIPS", "REASON"]
    assert shown.lines[1].startswith("orders  open")
    assert shown.lines[1].endswith(DOWN)
    (document,) = run("breaker", "show", "orders", "--json").rows
    assert (document["phase"], document["trips"], document["reason"]) == ("open", 1, DOWN)
    assert 240_000 * 0.9 < document["left_ms"] <= 300_000
    (change,) = document["transitions"]
    assert (change["phase"], change["reason"], change["actor"]) == ("open", DOWN, "")


def test_show_names_queues_that_have_a_breaker_and_any_that_is_named(run: Run, shop: Shop) -> None:
    assert shop.bodies() == []
    assert run("breaker", "show", "--json").rows == []
    (document,) = run("breaker", "show", "orders", "--json").rows
    assert (document["is_on"], document["phase"]) == (False, "closed")
    assert run("breaker", "show", "orders").lines[1].split()[:2] == ["orders", "off"]
    assert run("breaker", "show", "nowhere").code == 3


def test_a_person_opens_and_closes_it(run: Run, down: Shop) -> None:
    shown = run("breaker", "close", "orders")
    assert (shown.code, shown.lines) == (0, ["orders: its breaker is closed."])
    assert [message.body for message in down.queue.receive(5)] == ["a"]
    shown = run("breaker", "open", "orders", "--seconds", "90", "--json")
    assert (shown.json["phase"], shown.json["left_ms"]) == ("open", 90_000)
    assert down.queue.receive(5) == []
    (document,) = run("breaker", "show", "orders", "--json").rows
    assert [change["phase"] for change in document["transitions"]] == ["open", "closed", "open"]
    assert document["transitions"][-1]["actor"].startswith("person (")


def test_one_that_is_off_is_refused(run: Run, shop: Shop) -> None:
    shop.store.declare_queue("orders", {})
    for verb in ("open", "close"):
        shown = run("breaker", verb, "orders")
        assert shown.code == 5
        assert "durableq queue set orders --breaker on" in shown.err
    with pytest.raises(Conflict, match="has no circuit breaker"):
        shop.queue.open_breaker()


def test_in_python_it_is_looked_at_opened_and_closed(down: Shop) -> None:
    assert down.queue.breaker().reason == DOWN
    assert down.queue.close_breaker().phase is Phase.CLOSED
    opened = down.queue.open_breaker(seconds=2)
    assert (opened.phase, opened.left_ms) == (Phase.OPEN, 2_000)
    assert opened.reason.startswith("opened by pid ")


@pytest.mark.usefixtures("down")
def test_status_and_explain_show_an_open_breaker(run: Run) -> None:
    (line,) = [one for one in run("status").lines if one.startswith("limits of orders")]
    assert "breaker: open, probes in 4 min" in line or "breaker: open, probes in 5 min" in line
    assert DOWN in line
    orders = run("status", "--json").json["queues"][0]["limits"]
    assert (orders["breaker"], orders["breaker_reason"]) == ("open", DOWN)
    because = run("explain", 2, "--json").json["because"][-1]
    assert because.startswith("breaker: open, probes in ")
    assert "durableq breaker close orders" in because


def test_explain_tells_that_a_half_open_breaker_probes(run: Run, down: Shop) -> None:
    down.queue.open_breaker(seconds=0.001)
    [probe] = down.store.receive("orders", 5, wait_ms=10_000).messages
    assert probe.body == '"b"'
    assert "At most 3 messages are in flight, as probes" in run("explain", 1).out
    assert "breaker: half-open: its open time is over" in run("status").out


def test_doctor_warns_of_an_open_breaker(run: Run, down: Shop) -> None:
    down.dq.close()
    found = findings(run("doctor", "--json"))["breaker"]
    assert found["level"] == "warn"
    assert DOWN in found["what"]


@pytest.mark.usefixtures("down")
def test_show_of_a_message_tells_that_its_receive_was_not_counted(run: Run) -> None:
    shown = run("show", 1, "--json").json
    assert shown["receive_count"] == 0
    assert [event["event"] for event in shown["history"]] == ["unavailable"]

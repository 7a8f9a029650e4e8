"""The faults, on processes that only sleep: a counted fault did happen."""

from __future__ import annotations

import random
import signal
import subprocess

import psutil
import pytest

from durableq.testing.chaos import faults
from durableq.testing.chaos.faults import FALSE_STARTS, Kill, Phase, Stop
from durableq.testing.chaos.injection import KINDS, ONCE, Injector, Planned, plan
from durableq.testing.chaos.ledger import Step, read
from durableq.testing.chaos.server_faults import Crash, Cut
from tests.chaos.supervisor import Supervisor


def status(process: subprocess.Popen[bytes]) -> str:
    return str(psutil.Process(process.pid).status())


def test_the_same_seed_plans_the_same_faults() -> None:
    def planned(seed: int) -> list[tuple[float, str]]:
        return [(due, fault.name) for due, fault in plan(40, 20, random.Random(seed))]

    assert planned(1) == planned(1) != planned(2)
    assert sum(name == "stop" for _, name in planned(1)) == 8
    assert all(0 <= due <= 20 for due, _ in planned(1))
    assert plan(0, 20, random.Random(1)) == []


def test_faults_of_a_server_come_on_top() -> None:
    planned = [fault.name for _, fault in plan(10, 5, random.Random(1), (Cut, Crash))]
    assert len(planned) == 10 + len(ONCE) + 6 + 1
    assert (planned.count("cut"), planned.count("crash")) == (6, 1)
    assert plan(0, 5, random.Random(1), (Cut, Crash)) == []


@pytest.mark.parametrize("kind", [Cut, Crash])
def test_without_a_server_its_faults_do_not_happen(
    kind: type[faults.Fault], fleet: Supervisor
) -> None:
    assert fleet.advance(kind()) is Phase.WAITING
    assert read(fleet.folder) == []


@pytest.mark.parametrize(
    "kind", [*(kind.fault for kind in KINDS.values()), *ONCE.values(), Cut, Crash]
)
def test_every_kind_describes_its_fault_and_the_proof(kind: type[faults.Fault]) -> None:
    if kind not in (Cut, Crash):
        assert kind is (ONCE[kind.name] if kind.name in ONCE else KINDS[kind.name].fault)
    assert kind.does
    assert kind.proof


def test_a_kill_without_a_living_worker_has_not_happened(fleet: Supervisor) -> None:
    assert fleet.advance(Kill()) is Phase.WAITING
    fleet.start()
    fleet.close()
    assert fleet.advance(Kill()) is Phase.WAITING
    assert read(fleet.folder) == []


def test_a_worker_that_was_just_killed_is_not_killed_again(fleet: Supervisor) -> None:
    fleet.start()
    fleet.targets.refresh()
    assert Kill().advance(fleet.targets) is Phase.HAPPENED
    assert Kill().advance(fleet.targets) is Phase.WAITING
    assert len(read(fleet.folder)) == 1


def test_a_kill_is_recorded_with_the_message_of_the_worker(fleet: Supervisor) -> None:
    fleet.start()
    (victim,) = fleet.processes
    fleet.note(victim.pid, Step.INVOKE)
    assert fleet.advance(Kill()) is Phase.HAPPENED
    assert victim.wait() == -signal.SIGKILL
    line = read(fleet.folder)[-1]
    assert (line.operation, line.step, line.message_id) == ("kill", str(victim.pid), "7")


def test_after_some_false_starts_only_a_worker_that_receives_is_killed(fleet: Supervisor) -> None:
    fleet.start(FALSE_STARTS + 2)
    fleet.kill_some()
    receives, other = fleet.living()
    fleet.say("receives", receives.pid)
    assert fleet.advance(Kill()) is Phase.HAPPENED
    assert fleet.advance(Kill()) is Phase.WAITING
    assert [process.pid for process in fleet.living()] == [other.pid]


def test_deaths_that_the_supervisor_logged_before_a_worker_received_are_forgotten(
    fleet: Supervisor,
) -> None:
    fleet.start(FALSE_STARTS)
    fleet.say("died", *fleet.kill_some())
    fleet.start()
    fleet.say("receives", fleet.processes[-1].pid)
    fleet.say("died: SIGKILL", fleet.processes[-1].pid)
    fleet.start(FALSE_STARTS + 1)
    assert len(fleet.kill_some()) == FALSE_STARTS


def test_deaths_that_the_supervisor_has_not_logged_yet_still_count(fleet: Supervisor) -> None:
    fleet.start(FALSE_STARTS + 1)
    receives = fleet.processes[0]
    fleet.targets.stopped[receives.pid] = psutil.Process(receives.pid)
    fleet.start()
    dead = fleet.kill_some()
    fleet.say("receives", receives.pid)
    assert fleet.advance(Kill()) is Phase.WAITING
    fleet.say("died: SIGKILL", *dead)
    assert fleet.advance(Kill()) is Phase.WAITING
    fleet.say("started", receives.pid)
    fleet.say("receives", receives.pid)
    assert fleet.advance(Kill()) is Phase.HAPPENED


def test_half_a_line_of_the_supervisor_is_read_once_it_is_whole(fleet: Supervisor) -> None:
    fleet.start(FALSE_STARTS + 1)
    fleet.kill_some()
    (last,) = fleet.living()
    with fleet.log.open("w") as log:
        log.write(f"worker-1 (pid {last.pid}) rece")
    assert fleet.advance(Kill()) is Phase.WAITING
    with fleet.log.open("a") as log:
        log.write("ives\n")
    assert fleet.advance(Kill()) is Phase.HAPPENED


def test_a_stop_waits_for_the_takeover_and_is_proven_by_the_refusal(fleet: Supervisor) -> None:
    fleet.start(2)
    victim, other = fleet.processes
    stop = Stop()
    assert fleet.advance(stop) is Phase.WAITING, "no worker has a message"
    fleet.note(victim.pid, Step.INVOKE)
    assert fleet.advance(stop) is Phase.WAITING, "the gateway may still refuse"
    fleet.note(victim.pid, Step.PASSED)
    assert fleet.advance(stop) is Phase.UNDERWAY
    assert status(victim) == psutil.STATUS_STOPPED
    assert victim.pid not in {process.pid for process in fleet.targets.available()}
    fleet.note(other.pid, Step.INVOKE, "0.2")
    assert fleet.advance(stop) is Phase.UNDERWAY
    assert status(victim) != psutil.STATUS_STOPPED
    fleet.note(victim.pid, Step.REFUSED)
    assert fleet.advance(stop) is Phase.HAPPENED
    assert len(fleet.targets.available()) == 2


def test_a_stop_that_was_not_refused_is_repeated(
    fleet: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "TAKEOVER_SECONDS", 0.0)
    fleet.start()
    (victim,) = fleet.processes
    fleet.note(victim.pid, Step.PASSED)
    stop = Stop()
    assert fleet.advance(stop) is Phase.UNDERWAY
    fleet.note(victim.pid, Step.OK)
    assert fleet.advance(stop) is Phase.WAITING
    fleet.note(victim.pid, Step.PASSED, "0.2")
    assert fleet.advance(stop) is Phase.UNDERWAY


def test_the_injector_counts_injected_faults_and_continues_every_worker(fleet: Supervisor) -> None:
    fleet.start(2)
    victim, other = fleet.processes
    fleet.note(victim.pid, Step.PASSED)
    plan_of_three = [Planned(0.0, Stop()), Planned(0.0, Kill()), Planned(99, Kill())]
    with Injector(plan_of_three, fleet.targets) as injector:
        injector.tick()
        assert status(victim) == psutil.STATUS_STOPPED
        assert other.wait() == -signal.SIGKILL
    assert status(victim) != psutil.STATUS_STOPPED
    assert (dict(injector.asked), dict(injector.happened)) == ({"stop": 1, "kill": 2}, {"kill": 1})
    assert not injector.is_over

"""The redrive tasks: how far each is, and one of them."""

from __future__ import annotations

from typing import Any

from durableq.cli import rendering
from durableq.dashboard import redrives
from durableq.dashboard.visit import Visit
from durableq.model.dead_letters import DeadLetterFilter, RedriveState, RedriveTask, WholeQueue
from durableq.model.decisions import Requeue
from durableq.model.units import span
from durableq.store.core import Capability


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page of all tasks."""
    return {"tasks": visit.store.require(Capability.REDRIVE).redrive_tasks()}


def one(visit: Visit) -> dict[str, Any]:
    """Return the values of the page of one task.

    Raises:
        NotFound: there is no such task.
    """
    task = visit.store.require(Capability.REDRIVE).redrive_task(visit.named("id"))
    is_running = task.state is RedriveState.RUNNING
    return {
        "task": task,
        "facts": _facts(task),
        "is_running": is_running,
        "is_here": is_running and redrives.is_carried_out(visit.dq, task.id),
        "has_rate": isinstance(task.decision, Requeue),
    }


def _facts(task: RedriveTask) -> list[tuple[str, str]]:
    left, decision = task.total - task.moved - task.skipped, task.decision
    delay_ms = decision.delay_ms if isinstance(decision, Requeue) else 0
    known = [
        ("Decision", task.word),
        ("To", "" if task.word == "discard" else task.to_queue or "the queue where each died"),
        _meant(task.wanted),
        ("Rate", rendering.rate_words(task.rate) if task.word != "discard" else ""),
        ("Delay", span(delay_ms) if delay_ms else ""),
        ("Note", decision.reason),
        ("By", task.actor),
        ("Why it failed", task.failure.sentence if task.failure else ""),
    ]
    if task.state is RedriveState.RUNNING and task.rate:
        known.append(("Time left", f"about {span(round(left / task.rate * 1000))}"))
    return [(name, value) for name, value in known if value]


def _meant(wanted: DeadLetterFilter | WholeQueue) -> tuple[str, str]:
    """Return the messages that a task is about, as a fact."""
    if isinstance(wanted, WholeQueue):
        return "Messages", f"all of queue {wanted.name}"
    return "Dead letters", _filter_words(wanted)


def _filter_words(wanted: DeadLetterFilter) -> str:
    """Return the conditions of a filter in words."""
    known = {
        "queue": wanted.queue,
        "reason": wanted.reason and wanted.reason.replace("_", " "),
        "error": wanted.error_type,
        "group": wanted.fingerprint,
        "died before": wanted.died_before_ms and rendering.moment(wanted.died_before_ms),
    }
    words = [f"{name} {value}" for name, value in known.items() if value]
    return ", ".join(words) or "all"

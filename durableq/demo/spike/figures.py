"""The figures of a run, and the facts that must hold in a run with limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from durableq.demo.spike.recording import PERIODS_OF_A_SECOND, Recording
from durableq.model.flow.breaker import Phase


class Figure(NamedTuple):
    """A figure under its name for people and its name in JSON."""

    name: str
    key: str
    value: int


def figures(recording: Recording) -> list[Figure]:
    """Return the figures of a run, always the same ones."""
    total, last = recording.total, recording.last
    most_repeated = max(calls.repeated for _, calls in recording.seconds())
    most = recording.downstream.most_in_a_second
    return [
        Figure("seconds", "seconds", round(last.at)),
        Figure("most calls in a second", "most_calls_in_a_second", most),
        Figure("calls", "calls", total.all),
        Figure("  answered", "answered", total.answered),
        Figure("  refused: over the capacity", "refused_over_capacity", total.refused),
        Figure("  refused: down", "refused_down", total.down),
        Figure("retries among the calls", "retries", total.repeated),
        Figure("most retries in a second", "most_retries_in_a_second", most_repeated),
        Figure("breaker opened", "breaker_opened", openings(recording)),
        Figure("messages completed", "completed", last.completed),
        Figure("dead letters", "dead_letters", last.dead),
    ]


def openings(recording: Recording) -> int:
    """Return the number of times that the breaker opened."""
    return sum(change.phase is Phase.OPEN for change in recording.changes)


def problems(recording: Recording) -> list[str]:
    """Return a sentence for each fact that does not hold: of limits only in a run with limits."""
    load, last = recording.load, recording.last
    found = [recording.interruption] if recording.interruption else []
    if last.ended != load.messages:
        found.append(f"{last.ended} of {load.messages} messages have ended.")
    if not load.is_limited:
        return found
    most = recording.downstream.most_in_a_second
    if most > load.capacity:
        found.append(f"The downstream saw {most} calls in a second; it bears {load.capacity}.")
    if not openings(recording):
        found.append("The breaker did not open.")
    if last.dead:
        found.append(f"{last.dead} messages died, of an outage that is not their fault.")
    return found


def document(recordings: Sequence[Recording], page: str) -> dict[str, Any]:
    """Return runs for JSON.

    Args:
        recordings: the runs.
        page: the path of the page with their plots.
    """
    found = [problem for one in recordings for problem in problems(one)]
    load = recordings[0].load
    return {
        "ok": not found,
        "problems": found,
        "page": page,
        "messages": load.messages,
        "capacity": load.capacity,
        "outage_seconds": load.outage_seconds,
        "runs": [_run(recording) for recording in recordings],
    }


def _run(recording: Recording) -> dict[str, Any]:
    return {
        "name": recording.load.name,
        "limits": dict(recording.load.settings),
        **{figure.key: figure.value for figure in figures(recording)},
        "outage": recording.outage and [round(at, 3) for at in recording.outage],
        "series": [*_series(recording)],
    }


def _series(recording: Recording) -> list[dict[str, Any]]:
    """Return the run second by second."""
    rows = []
    for at, calls in [*recording.seconds()][PERIODS_OF_A_SECOND - 1 :: PERIODS_OF_A_SECOND]:
        sample = recording.sample_at(at)
        rows.append(
            {
                "at": round(at, 3),
                "calls": calls.all,
                "answered": calls.answered,
                "retries": calls.repeated,
                "backlog": sample.backlog,
                "completed": sample.completed,
                "dead_letters": sample.dead,
                "breaker": sample.breaker,
            }
        )
    return rows

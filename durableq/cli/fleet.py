"""Two commands that run: `recover` and `demo`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.options import DEMO_SEED, App, Db, Json, Procs, Queues, application, check_lasting
from durableq.verdict import Requeue, Retry

if TYPE_CHECKING:
    from durableq.recovery.process import Decision

Once = Annotated[bool, typer.Option("--once", help="Stop when no dead letter is ready.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be decided; change nothing.")
]
Count = Annotated[int, typer.Option(min=1, max=100_000, help="Messages.")]
Seed = Annotated[int, typer.Option(help="Which traffic: the same seed, the same orders.")]


def recover(
    app: App = None,
    queue: Queues = None,
    once: Once = False,
    dry_run: DryRun = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Decide about dead letters by the application's policies, until stopped.

    Each is discarded, retried with a changed body, requeued unchanged, or held for a person; the
    decision and its reason are kept in the letter's history.

    Example: durableq recover --once --dry-run
    """
    from durableq.recovery.process import Recovery

    _, loaded = application(app, db)
    recovery = Recovery(loaded, queues=tuple(queue or ()))
    verdicts: dict[str, int] = {}

    def show(decision: Decision) -> None:
        described = _decision_document(decision)
        verdicts[described["verdict"]] = verdicts.get(described["verdict"], 0) + 1
        if as_json:
            output.json_line(described)
        else:
            output.line(_decision_words(described))

    with loaded:
        if dry_run:
            for decision in recovery.plan():
                show(decision)
        else:
            with _stopping(recovery.stopping.set):
                recovery.run(once=once, on_decision=show)
    counts = ", ".join(f"{number} {name}" for name, number in sorted(verdicts.items()))
    output.say(f"{'Would decide' if dry_run else 'Decided'}: {counts or 'nothing'}.")


def demo(
    count: Count = 200,
    procs: Procs = 4,
    seed: Seed = DEMO_SEED,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Show everything at once: a producer, a fleet and recovery on one file, and their accounts.

    The figures are printed beside their references. It ends with exit code 6 if an account does
    not balance.

    Example: durableq demo --procs 4
    """
    from durableq.demo import show

    if db is not None:
        check_lasting(db)
    report = show.run(db, count, procs, seed, output.live())
    if as_json:
        output.document(report.as_dict())
    else:
        output.table(("ACCOUNT", "REFERENCE", "MEASURED"), report.rows)
        output.line()
        for problem in report.problems:
            output.line(f"PROBLEM: {problem}")
        if not report.problems:
            output.line("Every account balances.")
    if report.problems:
        raise typer.Exit(output.UNHEALTHY)


COMMANDS: Final = (recover, demo)


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGTERM or SIGINT ask to stop, and a second one end the process."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def on_signal(_number: int, _frame: object) -> None:
        stop()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()


def _decision_document(decision: Decision) -> dict[str, Any]:
    letter, verdict = decision.letter, decision.verdict
    described: dict[str, Any] = {
        "id": letter.id,
        "queue": letter.source_queue,
        "key": letter.key,
        "verdict": type(verdict).__name__.lower(),
        "reason": verdict.reason,
        "outcome": decision.outcome.value if decision.outcome else None,
    }
    if isinstance(verdict, (Retry, Requeue)):
        described["delay"] = verdict.delay
    if isinstance(verdict, Retry) and not isinstance(verdict.body, bytes):
        described["body"] = verdict.body
    return described


def _decision_words(described: dict[str, Any]) -> str:
    words = f"{described['verdict']:<8} {described['id']:>6} of {described['queue']}"
    if described["reason"]:
        words += f": {described['reason']}"
    if described["outcome"] in {"stale", "gone"}:
        words += " (refused: somebody else had decided)"
    return words

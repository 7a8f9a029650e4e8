"""The demo with real processes: its accounts, its failures, and no process left behind."""

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from durableq import Conflict, DurableQ, DurableQError, Unsupported
from durableq.demo import processes, reading, show
from durableq.demo.accounts import Plan, Report, judge
from durableq.demo.processes import ended_by_signals
from durableq.demo.reading import read
from durableq.demo.traffic import COUNT, DUPLICATES
from durableq.store.core import Capability
from tests.process.child import Child, runs
from tests.support import wait_for

DEMO = [sys.executable, "-m", "durableq", "demo", "--procs", "2"]
SMALL = 24
SEED = 5
OF_QUEUE = "WHERE queue_id = (SELECT id FROM durableq_queue WHERE name ="

#: The tests that read the file of `finished` run in one process, so that it is made once.
reads_finished = pytest.mark.xdist_group("demo")


def ignore(_line: str) -> None:
    pass


def family() -> list[psutil.Process]:
    """The processes that tests started, without the warm ones that other tests share."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if runs(child) and not is_warm(child)]


def is_warm(process: psutil.Process) -> bool:
    try:
        return "tests.warm" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def workers() -> list[psutil.Process]:
    return [process for process in family() if "durableq.worker" in process.cmdline()]


def is_stopped(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_STOPPED)


def measured(report: Report) -> dict[str, str]:
    return {account.strip(): figure for account, _, figure in report.rows}


@pytest.fixture(autouse=True)
def quick_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "TRAFFIC_SECONDS", 1)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the demo's temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kept file of a small demo; tests copy it."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", str(folder))
        patch.setattr(show, "TRAFFIC_SECONDS", 1)
        report = show.run(None, SMALL, 2, SEED, ignore, keep=True)
    assert report.problems == []
    (db,) = folder.glob("*/demo.db")
    return db


@pytest.fixture
def shop(finished: Path, tmp_path: Path) -> Iterator[DurableQ]:
    with DurableQ(shutil.copy(finished, tmp_path)) as shop:
        yield shop


def problems_after(shop: DurableQ, *statements: str) -> str:
    with shop.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    file = read(show.place_of(shop), show.QUEUES)
    return "\n".join(judge(file, Plan.of(SMALL, DUPLICATES, SEED)).problems)


def test_every_order_is_charged_once_while_a_worker_is_killed(temporary: Path) -> None:
    said: list[str] = []
    killed: list[int] = []

    def progress(line: str) -> None:
        said.append(line)
        if not killed and "charged 0 " not in line and (found := workers()):
            killed.append(found[0].pid)
            found[0].kill()

    report = show.run(None, COUNT, 4, 7, progress)
    assert report.problems == []
    assert killed
    assert str(temporary) in said[0]
    figures = measured(report)
    assert (figures["orders charged exactly once"], figures["orders discarded"]) == ("138", "12")
    assert figures["duplicates recognised"] == "50"
    assert family() == []
    assert list(temporary.iterdir()) == []


def test_the_accounts_balance_on_postgresql_and_all_tables_are_in_its_schema(
    postgres_url: str,
) -> None:
    said: list[str] = []
    with DurableQ(postgres_url) as dq:
        others = sqlalchemy.inspect(dq.engine).get_table_names()
    assert show.run(postgres_url, SMALL, 2, SEED, said.append).problems == []
    assert said[0].startswith("Everything happens in one schema: postgresql://")
    with DurableQ(postgres_url) as dq:
        schema = sqlalchemy.inspect(dq.engine)
        assert "demo_ledger" in schema.get_table_names(postgres_url.rpartition("=")[2])
        assert schema.get_table_names() == others
        with dq.engine.begin() as connection:
            name = postgres_url.rpartition("=")[2]
            connection.exec_driver_sql(f"UPDATE {name}.demo_ledger SET amount_cents = 1")
    found = judge(read(reading.alone(postgres_url), show.QUEUES), Plan.of(SMALL, DUPLICATES, SEED))
    assert any("The ledger holds" in problem for problem in found.problems)
    with pytest.raises(Conflict, match=f"has had {SMALL} messages"):
        show.run(postgres_url, SMALL, 1, SEED, ignore)
    assert family() == []


@reads_finished
def test_the_accounts_of_a_kept_file_balance(shop: DurableQ) -> None:
    assert problems_after(shop) == ""


@reads_finished
@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (
            "DELETE FROM demo_ledger WHERE id = (SELECT min(id) FROM demo_ledger)",
            "neither charged nor discarded",
        ),
        (
            "INSERT INTO demo_ledger (order_key, amount_cents, charged_as, message_id) "
            "SELECT order_key, amount_cents, charged_as, message_id FROM demo_ledger LIMIT 1",
            "charged more than once",
        ),
        ("UPDATE demo_ledger SET amount_cents = amount_cents + 1", "The ledger holds"),
        (
            f"UPDATE durableq_counters SET duplicates = duplicates - 1 {OF_QUEUE} 'orders')",
            "1 missed",
        ),
        (
            f"UPDATE durableq_counters SET duplicates = duplicates + 1 {OF_QUEUE} 'orders')",
            "1 invented",
        ),
        (
            f"UPDATE durableq_counters SET discarded = discarded - 1 {OF_QUEUE} 'orders-dlq')",
            "counters orders-dlq holds",
        ),
        ("UPDATE durableq_history SET reason = ''", "without a recorded reason"),
    ],
    ids=["lost", "doubled", "amount", "missed", "invented", "counter", "reason"],
)
def test_an_imbalance_is_noticed(shop: DurableQ, tampering: str, problem: str) -> None:
    assert problem in problems_after(shop, tampering)


@reads_finished
def test_a_message_that_came_late_is_noticed(shop: DurableQ) -> None:
    shop.queue("orders").send({"order": 1})
    found = problems_after(shop)
    assert f"{SMALL + 1} messages were sent, not {SMALL}." in found
    assert "1 messages have not ended: 1 in orders" in found


@reads_finished
def test_a_file_that_has_had_orders_is_refused_untouched(shop: DurableQ) -> None:
    before = shop.store.require(Capability.INSPECT).queues()
    with pytest.raises(Conflict, match=f"has had {SMALL} messages in its queue 'orders'"):
        show.run(shop.url, SMALL, 1, SEED, ignore)
    assert shop.store.require(Capability.INSPECT).queues() == before
    assert family() == []


def test_a_database_that_processes_cannot_share_is_refused() -> None:
    with pytest.raises(Unsupported, match="several processes on one file"):
        show.run("memory://", SMALL, 1, SEED, ignore)


def test_a_process_that_fails_ends_the_demo_with_its_last_words(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "APP", "there.is.no:such")
    with pytest.raises(DurableQError, match=r"(?s)`durableq (work|recover)` failed .*no module"):
        show.run(None, SMALL, 1, SEED, ignore)
    assert family() == []
    assert list(temporary.iterdir()) == []


def test_a_fleet_that_is_killed_leaves_no_worker(temporary: Path) -> None:
    orphans: list[psutil.Process] = []

    def progress(_line: str) -> None:
        if not orphans and (found := workers()):
            orphans.extend(found)
            found[0].parent().kill()  # type: ignore[union-attr]

    with pytest.raises(DurableQError, match="`durableq work` failed with SIGKILL"):
        show.run(None, SMALL, 2, SEED, progress)
    assert orphans
    wait_for(lambda: not any(map(runs, orphans)), what="the orphans' end")
    assert list(temporary.iterdir()) == []


def test_a_demo_that_does_not_end_in_time_is_a_problem_and_its_file_stays(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "DEADLINE_SECONDS", 0.0)
    monkeypatch.setattr(show, "SECONDS_PER_MESSAGE", 0.0)
    report = show.run(None, SMALL, 1, SEED, ignore)
    assert report.problems[0].startswith("The demo did not end in 0 seconds")
    assert family() == []
    assert list(temporary.glob("*/demo.db"))


def test_a_process_that_does_not_stop_is_killed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durableq.demo.processes.STOP_SECONDS", 1.0)
    said: list[str] = []

    def progress(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            for process in family():
                process.suspend()
            wait_for(lambda: all(map(is_stopped, family())), what="every process to stop")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show.run(None, SMALL, 2, SEED, progress)
    assert "`durableq work` is killed: it has not stopped in time." in said
    assert family() == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("load", "seconds"), [(0.5, 10), (6.0, 30), (1000.0, 60)])
def test_a_deadline_is_longer_on_a_loaded_machine(
    monkeypatch: pytest.MonkeyPatch, load: float, seconds: float
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert processes.scaled(10) == seconds


def test_processes_have_longer_to_stop_on_a_loaded_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.0)
    monkeypatch.setattr(processes, "scaled", lambda seconds: seconds + 240)
    killed: list[str] = []
    with processes.Processes(tmp_path, {}, killed.append) as started:
        started.start("server", "0", module="http.server")
    assert killed == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_raises_in_the_block_that_it_ends(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, ended_by_signals():
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_a_signal_ends_every_process(temporary: Path, tmp_path: Path) -> None:
    demo = Child(DEMO, tmp_path / "demo.out", None)
    try:
        demo.wait_until(lambda: len(workers()) >= 2, "its workers")
        children = demo.family
        demo.signal(signal.SIGTERM)
        assert demo.end() != 0
    finally:
        demo.kill()
    assert not any(map(runs, children))
    assert list(temporary.iterdir()) == []


def test_a_demo_that_is_killed_leaves_no_process(temporary: Path, tmp_path: Path) -> None:
    demo = Child(DEMO, tmp_path / "demo.out", None)
    demo.wait_until(lambda: len(workers()) >= 2, "its workers")
    demo.kill()
    wait_for(lambda: not any(map(runs, demo.orphans)), what="the end of its processes")
    assert len(demo.orphans) > 2

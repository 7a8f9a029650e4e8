"""`doctor`: its findings about a sound file and about every other kind."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin import operations
from durableq.engines.sql import examining
from durableq.engines.sqlite import doctor, doctor_file, location, locks
from durableq.engines.sqlite.driver import check_library, driver
from durableq.store.core import WorkerInfo
from durableq.supervisor.liveness import this_process
from tests.cli.console import Run, Shop
from tests.cli.findings import findings, levels
from tests.engine import plain
from tests.process.child import Nursery

RELEASED = Path(__file__).parents[1] / "migrations" / "released"
NAMES = [
    *("sqlite", "file_system", "links", "permissions", "disk", "file", "journal"),
    *("tables", "boot"),
    *("wall_clock", "free_pages", "integrity", "synchronous", "lease_clock"),
    *("wal", "oldest_reader", "write_lock", "workers", "handlers", "schedules"),
]


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


def state(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and not path.name.endswith("-shm")
    }


def test_a_file_in_use_is_ok(run: Run, shop: Shop) -> None:
    shop.bury()
    shown = run("doctor", "--json")
    assert (shown.code, shown.err) == (0, "")
    assert shown.json["database"] == "durableq.db"
    assert shown.json["healthy"] is True
    assert list(findings(shown)) == NAMES
    assert levels(shown, "bad", "warn") <= {"disk"}
    words = run("doctor")
    assert words.code == 0
    assert words.lines[-1] == "durableq.db: nothing is bad."
    assert any(line.startswith("ok    links          one name") for line in words.lines)


def test_a_file_at_rest_is_not_changed_and_nothing_is_left_beside_it(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    shop.bury()
    shop.dq.close()
    before = state(tmp_path)
    assert run("doctor").code == 0
    assert run("doctor", "--deep").code == 0
    assert state(tmp_path) == before
    assert list(before) == ["durableq.db"]


def test_a_file_that_a_killed_process_left_is_not_changed(
    run: Run, shop: Shop, nursery: Nursery, tmp_path: Path
) -> None:
    shop.dq.close()
    child = nursery.start("lock", tmp_path / "durableq.db")
    child.wait_line("READY")
    child.kill()
    before = {name: text for name, text in state(tmp_path).items() if name.startswith("durableq")}
    shown = run("doctor", "--json")
    assert shown.code == 0
    after = {name: text for name, text in state(tmp_path).items() if name.startswith("durableq")}
    assert after == before


def test_deep_compares_the_indexes(run: Run, shop: Shop) -> None:
    assert "quick_check: ok" in findings(run("doctor", "--json"))["integrity"]["what"]
    deep = findings(run("doctor", "--deep", "--json"))["integrity"]["what"]
    assert deep == "integrity_check: ok"


def missing(path: Path) -> None:
    del path


def directory(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def junk(path: Path) -> None:
    path.write_bytes(b"junk " * 1000)


def foreign(path: Path) -> None:
    plain.create(path, "CREATE TABLE album (id INTEGER)")


def older(path: Path) -> None:
    shutil.copy(RELEASED / "0001.db", path)


def newer(path: Path) -> None:
    with DurableQ(path) as dq:
        dq.init()
    plain.script(path, "UPDATE durableq_version SET version_num = '9999'")


def linked(path: Path) -> None:
    with DurableQ(path) as dq:
        dq.init()
    path.with_name("other.db").hardlink_to(path)


def read_only(path: Path) -> None:
    with DurableQ(path) as dq:
        dq.init()
    path.chmod(0o444)


def torn(path: Path) -> None:
    with DurableQ(path) as dq:
        dq.queue("orders").send_many(["x" * 500] * 500)
    path.write_bytes(path.read_bytes()[:100_000])


def flipped(path: Path) -> None:
    with DurableQ(path) as dq:
        dq.queue("orders").send_many(["x" * 500] * 500)
    content = bytearray(path.read_bytes())
    content[-40_000:-36_000] = b"\xff" * 4_000
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "name", "what", "advice"),
    [
        (missing, "file", "there is no file", "durableq init --db"),
        (directory, "file", "is a directory", "Name a file"),
        (pipe, "file", "is not a regular file", "Name a database file"),
        (junk, "file", "is not a SQLite database", "Name another file with --db"),
        (foreign, "file", "another application's tables", "--beside-other-tables"),
        (older, "file", "that an older version made", "durableq migrate --db"),
        (newer, "file", "made by a newer durableq", "pip install -U durableq"),
        (linked, "links", "has 2 hard links", "find DIRECTORY -samefile"),
        (read_only, "permissions", "is read-only", "chmod u+w"),
        (torn, "integrity", "damaged", "durableq restore FILE --db"),
        (flipped, "integrity", "quick_check: ", "durableq restore FILE --db"),
    ],
)
def test_each_kind_of_file_has_its_line_and_is_left_as_it_is(
    run: Run,
    tmp_path: Path,
    make: Callable[[Path], None],
    name: str,
    what: str,
    advice: str,
) -> None:
    path = tmp_path / "any.db"
    make(path)
    before = state(tmp_path)
    shown = run("doctor", "--db", path, "--json")
    assert (shown.code, shown.err) == (6, "")
    assert shown.json["healthy"] is False
    found = findings(shown)
    bad = found["file"] if name == "integrity" and name not in found else found[name]
    assert bad["level"] == "bad"
    assert what in bad["what"]
    assert advice in bad["advice"]
    words = run("doctor", "--db", path)
    assert words.code == 6
    assert f"-> {bad['advice']}" in words.out
    assert words.lines[-1] == f"{path}: something is bad, see above."
    assert state(tmp_path) == before


def test_an_empty_file_is_named_and_no_finding_is_bad(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    shown = run("doctor", "--db", "empty.db", "--json")
    assert shown.code == 0
    assert "file" in levels(shown, "warn")
    assert (tmp_path / "empty.db").read_bytes() == b""


@pytest.mark.parametrize(("kind", "allowed"), [("nfs4", ""), ("nfs4", "true"), ("ext4", "")])
def test_a_network_file_system_is_found(
    run: Run, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, allowed: str
) -> None:
    monkeypatch.setattr(location, "_mounts", lambda: {"/": kind})
    query = f"?allow_network_filesystem={allowed}" if allowed else ""
    shown = run("doctor", "--db", f"sqlite:///{tmp_path}/durableq.db{query}", "--json")
    levels_of = {("nfs4", ""): "bad", ("nfs4", "true"): "warn", ("ext4", ""): "ok"}
    assert findings(shown)["file_system"]["level"] == levels_of[kind, allowed]
    opened = "not opened" not in findings(shown)["file"]["what"]
    assert opened is (levels_of[kind, allowed] != "bad")


def test_a_file_mounted_by_itself_is_refused(
    run: Run, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_mounts", lambda: {"/": "ext4", str(shop.path): "ext4"})
    assert "mounted as a single file" in findings(run("doctor", "--json"))["file_system"]["what"]


def test_a_library_that_is_too_old_opens_nothing(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_file, "check_library", lambda _: check_library((3, 34, 1)))

    def refuse(_: object) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setattr(doctor, "open_read_only", refuse)
    monkeypatch.setattr(operations, "registered_workers", refuse)
    shown = run("doctor", "--json")
    assert shown.code == 6
    assert "3.34.1 is too old" in findings(shown)["sqlite"]["what"]
    assert "pip install" in findings(shown)["sqlite"]["advice"]


def test_a_guarded_library_is_named_with_the_unsafe_programs(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_file, "IS_GUARDED", True)
    shown = run("doctor", "--json")
    assert shown.code == 0
    assert "checkpoints are guarded" in findings(shown)["sqlite"]["what"]
    assert "nothing but durableq and dq.engine" in findings(shown)["sqlite"]["advice"]


def test_settings_that_may_lose_or_forge_messages_are_warned_of(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    shop.path.chmod(0o666)
    shown = run("doctor", "--db", f"sqlite:///{tmp_path}/durableq.db?synchronous=normal", "--json")
    assert shown.code == 0
    assert {"synchronous", "permissions"} <= levels(shown, "warn")


def test_a_clock_that_was_set_back_is_reported(run: Run, shop: Shop) -> None:
    shop.queue.send("a")
    plain.script(shop.path, "UPDATE durableq_message SET sent_at_ms = sent_at_ms + 7200000")
    shown = run("doctor", "--json")
    assert "lies 1 h ahead" in findings(shown)["wall_clock"]["what"]
    assert shown.code == 0


def test_a_file_of_another_boot_keeps_its_leases_until_it_is_opened(run: Run, shop: Shop) -> None:
    shop.queue.send("a")
    shop.queue.receive()
    shop.dq.close()
    plain.script(shop.path, "UPDATE durableq_meta SET value = 'other' WHERE name LIKE 'boot:%'")
    shown = run("doctor", "--json")
    assert "another boot" in findings(shown)["boot"]["what"]
    stored = "SELECT value FROM durableq_meta WHERE name LIKE 'boot:%'"
    assert plain.one(shop.path, stored) == "other"


def test_a_file_of_another_host_keeps_the_leases_of_that_host(run: Run, shop: Shop) -> None:
    shop.dq.close()
    plain.script(shop.path, "UPDATE durableq_meta SET name = 'boot:other' WHERE name LIKE 'boot:%'")
    found = findings(run("doctor", "--json"))["boot"]
    assert "another host" in found["what"]
    assert "run to their ends" in found["advice"]


def test_a_file_without_incremental_vacuum_gets_advice(run: Run, shop: Shop) -> None:
    shop.dq.close()
    plain.script(shop.path, "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = 0; VACUUM")
    found = findings(run("doctor", "--json"))["free_pages"]
    assert found["level"] == "warn"
    assert "durableq backup --db" in found["advice"]
    assert "--replace" in found["advice"]


@pytest.mark.parametrize("make", [Path.touch, foreign, newer])
def test_the_advice_for_a_foreign_file_is_not_to_back_it_up_and_restore_it(
    run: Run, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(path := tmp_path / "any.db")
    advices = [
        finding["advice"] for finding in run("doctor", "--db", path, "--json").json["findings"]
    ]
    assert not [advice for advice in advices if "durableq backup" in advice]


def test_the_holder_of_the_write_lock_is_named(run: Run, shop: Shop, nursery: Nursery) -> None:
    child = nursery.start("lock", shop.path)
    child.wait_line("READY")
    shown = run("doctor", "--json")
    held = findings(shown)["write_lock"]
    assert held["level"] == "warn"
    assert held["what"].startswith(f"process {child.pid} (")
    assert shown.code == 0
    child.signal(signal.SIGSTOP)
    stopped = findings(run("doctor", "--json"))["write_lock"]
    assert stopped["level"] == "bad"
    assert "is stopped" in stopped["what"]
    assert f"kill -CONT {child.pid}" in stopped["advice"]


def test_a_reader_is_named_and_blamed_for_a_large_log(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain.connection(shop.path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM durableq_message").fetchone()
        small = findings(run("doctor", "--json"))
        assert small["oldest_reader"]["level"] == "ok"
        assert small["oldest_reader"]["what"].startswith(f"process {os.getpid()} (")
        monkeypatch.setattr(doctor_file, "LARGE_LOG_BYTES", 0)
        shop.queue.send("a")
        large = findings(run("doctor", "--json"))
    assert large["oldest_reader"]["level"] == large["wal"]["level"] == "warn"
    assert "see oldest_reader" in large["wal"]["advice"]
    alone = findings(run("doctor", "--json"))
    assert alone["oldest_reader"]["level"] == "ok"
    assert "shrinks with the next commits" in alone["wal"]["advice"]


def test_a_system_that_lists_no_locks_is_reported(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "are_listed", lambda: False)
    shown = run("doctor", "--json")
    assert findings(shown)["write_lock"]["what"] == "not told by this system"
    assert list(findings(shown)) == NAMES


@pytest.mark.parametrize(("free", "level"), [(1 << 40, "ok"), (100 << 20, "warn"), (1, "bad")])
def test_little_disk_space_is_reported(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    class Status:
        f_bavail, f_frsize = free, 1

    monkeypatch.setattr(os, "statvfs", lambda _: Status)
    assert findings(run("doctor", "--json"))["disk"]["level"] == level


def test_dead_workers_still_listed_are_named(run: Run, shop: Shop) -> None:
    shop.store.register(this_process("alive"))
    assert findings(run("doctor", "--json"))["workers"]["level"] == "ok"
    boot, space = (getattr(this_process("me"), name) for name in ("boot_id", "pid_namespace"))
    shop.store.register(WorkerInfo("dead", os.getpid(), 1, boot, space))
    found = findings(run("doctor", "--json"))["workers"]
    assert found["level"] == "warn"
    assert found["what"] == f"listed, but dead: dead (pid {os.getpid()})"
    assert len(shop.store.workers()) == 2


def test_an_error_of_one_check_is_one_line(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "_NEWEST", "SELECT nonsense FROM nowhere")
    shown = run("doctor", "--json")
    assert levels(shown, "bad") == {"wall_clock"}
    assert list(findings(shown)) == NAMES


def test_a_file_that_this_user_may_not_read_is_not_called_damaged(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root is never refused access, so the refusal is simulated."""

    def refused(*_: object, **__: object) -> None:
        raise driver.OperationalError("unable to open database file")

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(driver, "connect", refused)
    shown = run("doctor", "--json")
    found = {finding["name"]: finding for finding in shown.json["findings"]}
    assert shown.code == 6
    assert "is not for this user" in found["permissions"]["what"]
    assert found["file"]["level"] == "warn"
    assert "restore" not in found["file"]["advice"]


def test_a_file_without_readers_or_writers_needs_one_look_at_its_locks(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.bury()

    def sleep(seconds: float) -> None:
        raise AssertionError(f"the doctor waited {seconds} s")

    monkeypatch.setattr(time, "sleep", sleep)
    found = {finding.name: finding.what for finding in operations.examine(str(shop.path))}
    assert found["oldest_reader"] == "no process reads for long"
    assert found["write_lock"] == "no process holds it for long"


def test_a_queue_over_a_threshold_is_unhealthy(run: Run, shop: Shop) -> None:
    shop.bury()
    shop.queue.send_many([1, 2])
    within = run("doctor", "--json", "--max-backlog=2", "--max-age=1h", "--max-dead=1")
    assert (within.code, findings(within)["thresholds"]["level"]) == (0, "ok")
    plain.script(shop.path, "UPDATE durableq_message SET enqueued_at_ms = enqueued_at_ms - 360000")
    over = run("doctor", "--json", "--max-backlog=1", "--max-age=5.5m", "--max-dead=0")
    assert over.code == 6
    found = findings(over)
    exceeded = ("max_backlog", "max_age", "max_dead")
    assert [found[name]["queue"] for name in exceeded] == ["orders", "orders", "orders-dlq"]
    assert found["max_backlog"]["what"] == "orders: messages 2, threshold 1"
    assert found["max_age"]["what"].startswith("orders: oldest ready message 6 min")
    assert found["max_dead"]["what"] == "orders-dlq: dead letters 1, threshold 0"
    assert run("doctor", "--max-age=7m").code == 0
    assert run("doctor", "--max-age=5").code == 2
    unread = run("doctor", "--json", "--db", "nowhere.db", "--max-dead=0")
    assert (unread.code, findings(unread)["thresholds"]["level"]) == (6, "bad")

"""With `read_only` the database refuses every write of the dashboard's store."""

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from durableq import DatabaseUnusable, DurableQ, Unsupported
from durableq.client.reader import Reader
from durableq.contrib.pytest import fresh
from durableq.engines import open_store
from durableq.engines.postgres import database
from durableq.model.drafts import drafts
from durableq.model.info import WorkerInfo
from durableq.store.core import Capability
from durableq.testing import FakeClock
from tests.dashboard.client import Client
from tests.dashboard.serving import serving
from tests.dashboard.test_actions import bury
from tests.support import new_file, scaled, wait_for


def test_every_page_works_on_it(either: DurableQ) -> None:
    one, two = bury(either, 2)
    waiting = either.queue("orders").send({"n": 1})
    with Client.of(either, read_only=True) as client:
        for path in (
            *(
                "/",
                "/queues/orders",
                "/queues/orders-dlq",
                "/workers",
                "/schedules",
                "/health",
                "/health?audit=1",
            ),
            *("/dead-letters", "/dead-letters?all=1", f"/messages/{one}", f"/messages/{waiting}"),
            *(
                "/redrives",
                "/keys",
                "/keys?key=k",
                "/values",
                "/values?key=v",
                "/recovery",
                "/metrics",
            ),
            *(f"/messages/{two}/body", "/queues/orders?by=text&text=n&state=ready"),
        ):
            assert client.get(path).status_code == 200, path
        for path in ("/queues/orders/pause", f"/messages/{one}/retry", "/dead-letters/release"):
            assert client.act(path, id=one).status == 404, path
        page = client.page(f"/messages/{one}")
        assert "post" not in page.values("form", "method")
        assert "Edit the body" not in page.text


def test_the_database_refuses_a_write(either: DurableQ) -> None:
    (one,) = bury(either)
    reader = Reader(either)
    with reader:
        store = reader.store
        for write in (
            lambda: store.send("orders", drafts([({"n": 1}, {})])),
            lambda: store.receive("orders-dlq", 1),
            lambda: store.declare_queue("other", {}),
            lambda: store.require(Capability.CONTROL).purge("orders-dlq"),
            lambda: store.require(Capability.METADATA).compare_and_set("a", "b", expected=None),
            lambda: store.require(Capability.FLEET).register(WorkerInfo("w", 1, 1)),
        ):
            with pytest.raises(DatabaseUnusable, match="opened for reading only"):
                write()
        tables: Any
        connection: Any
        tables = store.__dict__["_database"]
        if store.scheme == "sqlite":
            connection = nullcontext(tables.session().raw)
            name = "durableq_message"
        else:
            connection = tables.connect()
            name = f"{tables.quoted_schema}.durableq_message"
        with (
            pytest.raises(Exception, match=r"readonly database|read-only transaction"),
            connection as raw,
        ):
            raw.execute(f"DELETE FROM {name}")
    found = either.store.require(Capability.INSPECT).message(one)
    assert found is not None
    assert found.receipt is None
    assert found.state.label == "ready"
    assert either.queue("orders").send({"n": 2})


def test_behind_a_pooler_each_transaction_only_reads(
    postgres_tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DurableQ(postgres_tables_url) as dq:
        dq.queue("orders").send({"n": 1})
        monkeypatch.setattr(database, "keeps_session", lambda _: False)
        with Reader(dq) as reader:
            assert reader.store.count_ready("orders", 10).number == 1
            with pytest.raises(DatabaseUnusable, match="opened for reading only"):
                reader.store.send("orders", drafts([({"n": 2}, {})]))
            with pytest.raises(DatabaseUnusable, match="opened for reading only"):
                reader.store.receive("orders", 1)
        assert dq.store.count_ready("orders", 10).number == 1


def test_a_reader_hears_of_writes(either: DurableQ) -> None:
    queue = either.queue("orders")
    queue.send({"n": 0})
    with Reader(either) as reader:
        watch = reader.store.watch()
        wait_for(lambda: not watch.wait(0.2), what="the end of the writes before")
        queue.send({"n": 1})
        assert wait_for(lambda: watch.wait(scaled(5)), what="the write")
        watch.close()


def test_a_reader_has_the_clock_of_its_application(tmp_path: Path) -> None:
    clock = FakeClock()
    with DurableQ(new_file(tmp_path / "clock.db"), clock=clock) as dq, Reader(dq) as reader:
        dq.queue("orders").send(1, delay=60)
        assert reader.store.ready_in_ms(["orders"]) == 60_000
        clock.advance(50)
        assert reader.store.ready_in_ms(["orders"]) == 10_000


def test_a_reader_that_was_open_reads_the_fresh_store_of_a_test(tmp_path: Path) -> None:
    path = new_file(tmp_path / "real.db")
    with DurableQ(path) as other:
        other.queue("orders").send_many([1, 2])
    dq = DurableQ(path)
    orders = dq.queue("orders")
    with Reader(dq) as reader:
        assert reader.store.count_ready("orders", 10).number == 2
        for store in ("file", "memory"):
            with fresh(dq, store=store) as clock:
                orders.send(3, delay=60)
                clock.advance(50)
                assert reader.store.count_ready("orders", 10).number == 0
                assert reader.store.ready_in_ms(["orders"]) == 10_000
            assert reader.store.count_ready("orders", 10).number == 2


def test_a_reader_makes_nothing(tmp_path: Path, postgres_url: str) -> None:
    missing, empty = tmp_path / "none.db", tmp_path / "empty.db"
    with pytest.raises(DatabaseUnusable, match="cannot be opened"):
        open_store(str(missing), read_only=True)
    assert not missing.exists()
    empty.touch()
    for url in (str(empty), postgres_url):
        with pytest.raises(DatabaseUnusable, match="has no tables of durableq, and a reader"):
            open_store(url, read_only=True)
    assert empty.stat().st_size == 0
    with pytest.raises(Unsupported, match="cannot be opened for reading only"):
        open_store("memory://", read_only=True)


def test_a_store_in_memory_is_used_as_it_is() -> None:
    with DurableQ("memory://") as dq:
        dq.queue("orders").send({"n": 1})
        with Client.of(dq, read_only=True) as client:
            assert "orders no worker 1 0 0" in client.page("/").text


def test_the_command_opens_the_file_for_reading(tmp_path: Path) -> None:
    path = new_file(tmp_path / "shop.db")
    with DurableQ(path) as dq:
        (one,) = bury_in(dq)
        with serving(path, "--read-only") as (url, run):
            for page in ("", "queues/orders", f"messages/{one}"):
                with urlopen(url + page, timeout=scaled(20)) as answer:
                    assert b"read-only" in answer.read()
            modes = [mode for name, mode in open_modes(run.pid) if name == str(path)]
            run.send_signal(signal.SIGTERM)
            _, says = run.communicate(timeout=scaled(20))
    assert modes
    assert set(modes) == {os.O_RDONLY}
    assert (run.returncode, "Traceback" in says) == (0, False)


def bury_in(dq: DurableQ) -> list[str]:
    dq.queue("orders", max_receives=1)
    return bury(dq)


def open_modes(pid: int) -> list[tuple[str, int]]:
    """Return the files that a process has open, each with the mode in which it opened it."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        name = os.readlink(f"/proc/{pid}/fd/{number}")
        lines = Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines()
        (flags,) = [line.split()[1] for line in lines if line.startswith("flags:")]
        found.append((name, int(flags, 8) & os.O_ACCMODE))
    return found

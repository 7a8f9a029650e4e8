"""A FastAPI service with an outbox: a killed service leaves the row and the message, or neither."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.contrib.pages import write
from tests.engine import plain
from tests.engine.plain import Place
from tests.process.child import ROOT, Child, Nursery
from tests.support import scaled

HELD = str(ROOT / "tests" / "contrib" / "held_service.py")


@pytest.fixture(params=plain.ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    write(tmp_path, "service.py")
    if request.param == "sqlite":
        return tmp_path / "service.db"
    server, _, name = request.getfixturevalue("postgres_url").rpartition("schema=")
    return f"{server}options=-csearch_path%3D{name}&schema={name}"


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


def serve(nursery: Nursery, place: Place, tmp_path: Path, stops_at: str) -> Child:
    path = f"{tmp_path}:{ROOT}"
    child = nursery.run(
        *(sys.executable, HELD, stops_at),
        cwd=tmp_path,
        stdin=None,
        DURABLEQ_DB=str(place),
        PYTHONPATH=path,
    )
    child.wait_until(lambda: child.said, "its port")
    return child


def post(service: Child, number: int) -> dict[str, str]:
    """Order at the service, and return its answer."""
    body = json.dumps({"number": number, "amount": 120}).encode()
    url = f"http://127.0.0.1:{service.said[0]}/orders"
    request = Request(url, body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=scaled(60)) as answer:
        assert answer.status == 202
        answered: dict[str, str] = json.load(answer)
        return answered


def counts(place: Place) -> tuple[int, int]:
    """Orders and messages in the database."""
    return (
        plain.one(place, "SELECT count(*) FROM orders"),
        plain.one(place, "SELECT count(*) FROM durableq_message"),
    )


def drain(nursery: Nursery, place: Place, tmp_path: Path) -> None:
    worker = nursery.work("--drain", "--app=service:dq", cwd=tmp_path, DURABLEQ_DB=str(place))
    assert worker.end() == 0, worker.complaints


@pytest.mark.parametrize(("stops_at", "left"), [("after_flush", 0), ("after_commit", 1)])
def test_a_killed_service_leaves_the_row_and_the_message_or_neither(
    nursery: Nursery, place: Place, tmp_path: Path, stops_at: str, left: int
) -> None:
    service = serve(nursery, place, tmp_path, stops_at)

    def order() -> None:
        with suppress(OSError, HTTPException):  # its service is killed meanwhile
            post(service, 7)
            pytest.fail("The service has answered.")

    client = threading.Thread(target=order)
    client.start()
    service.wait_line("held")
    service.kill()
    client.join(scaled(60))
    assert service.process.returncode == -signal.SIGKILL
    assert counts(place) == (left, left)
    service = serve(nursery, place, tmp_path, "never")
    post(service, 8)
    drain(nursery, place, tmp_path)
    assert counts(place) == (left + 1, 0)
    assert set(plain.column(place, "SELECT state FROM orders")) == {"paid"}
    plain.check_sound(place)

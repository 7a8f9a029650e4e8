"""Workers of Celery and dramatiq ship orders that are sent through the endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.foreign.smoke import ENVIRONMENT, client, new_name, wait_for

APPLICATIONS = Path(__file__).with_name("applications")
PROGRAMS = Path(sys.executable).parent


class Shop:
    """An application in processes of its own."""

    def __init__(self, folder: Path, module: str) -> None:
        self.module = module
        self.prefix = f"{new_name(module.partition('_')[0])}-"
        self._file, self._log = folder / "shipped.txt", folder / "worker.log"
        self._environment = {
            **os.environ,
            **ENVIRONMENT,
            "PYTHONPATH": str(APPLICATIONS),
            "SHOP_PREFIX": self.prefix,
            "SHOP_SHIPPED": str(self._file),
        }

    def send(self, code: str) -> None:
        """Run a line of Python that sends orders."""
        command = [sys.executable, "-c", f"from {self.module} import *; {code}"]
        subprocess.run(command, env=self._environment, check=True, timeout=60)

    def shipped(self) -> list[int]:
        return sorted(map(int, self._file.read_text().split())) if self._file.exists() else []

    @contextmanager
    def working(self, command: Sequence[str]) -> Iterator[None]:
        with self._log.open("ab") as log:
            worker = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
            try:
                yield
            except BaseException:
                print(self._log.read_text())
                raise
            finally:
                worker.terminate()
                worker.wait(60)

    def left(self) -> int:
        """Return the number of messages that its queues have, in any state."""
        sqs, count = client(), 0
        for url in sqs.list_queues(QueueNamePrefix=self.prefix).get("QueueUrls", []):
            found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            count += sum(int(n) for name, n in found.items() if name.startswith("Approximate"))
        return count


def _celery(shop: Shop) -> list[str]:
    queue = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [str(PROGRAMS / "celery"), "-A", shop.module, "worker", "-c", "2", *queue]


@pytest.fixture
def celery(tmp_path: Path) -> Shop:
    return Shop(tmp_path, "celery_shop")


@pytest.fixture
def dramatiq(tmp_path: Path) -> Shop:
    return Shop(tmp_path, "dramatiq_shop")


def test_celery_ships_each_order_once(celery: Shop) -> None:
    celery.send("[ship.delay(order) for order in range(30)]")
    celery.send("ship_at_second_try.delay(30)")
    with celery.working(_celery(celery)):
        wait_for(lambda: len(celery.shipped()) >= 31)
        wait_for(lambda: celery.left() == 0)
    assert celery.shipped() == [*range(31)]


def test_celery_ships_the_order_whose_worker_died(celery: Shop) -> None:
    celery.send("ship_after_a_death.delay(7)")
    with celery.working(_celery(celery)):
        wait_for(celery.shipped)
        wait_for(lambda: celery.left() == 0)
    assert celery.shipped() == [7]


def test_dramatiq_ships_each_order_once(dramatiq: Shop) -> None:
    dramatiq.send("[ship.send(order) for order in range(30)]")
    dramatiq.send("ship_at_second_try.send(30); ship.send_with_options(args=(31,), delay=1000)")
    command = [str(PROGRAMS / "dramatiq"), dramatiq.module, "-p", "1", "-t", "2"]
    with dramatiq.working(command):
        wait_for(lambda: len(dramatiq.shipped()) >= 32)
        wait_for(lambda: dramatiq.left() == 0)
    assert dramatiq.shipped() == [*range(32)]

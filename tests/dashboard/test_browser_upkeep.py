"""The pages of keys, recovery, redrive tasks, workers and the database in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from selenium.webdriver.common.keys import Keys

from durableq import DurableQ
from durableq.model.decisions import Discard
from durableq.store.core import Capability
from tests.dashboard.browser import Browser, started
from tests.dashboard.serving import serving
from tests.dashboard.upkeep import bury, complete, decide, poison, record, register, start_redrive
from tests.support import new_file, wait_for

pytestmark = pytest.mark.xdist_group("browser")


class Place(NamedTuple):
    """A browser, the URL of a dashboard, the application on its file, the folder of backups."""

    browser: Browser
    url: str
    dq: DurableQ
    backups: Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as made:
        yield made


@pytest.fixture
def place(browser: Browser, tmp_path: Path) -> Iterator[Place]:
    path, folder = new_file(tmp_path / "shop.db"), tmp_path / "backups"
    folder.mkdir()
    with DurableQ(path) as dq:
        dq.queue("orders", max_receives=1)
        _ = dq.store
        with serving(path, "--backup-dir", str(folder)) as (url, _):
            browser.says()
            yield Place(browser, url.rstrip("/"), dq, folder)
            browser.leave()


def test_each_of_these_pages_is_whole_at_every_size(place: Place) -> None:
    browser = place.browser
    for path in poison(place.dq):
        for width, scheme in ((1280, "light"), (360, "dark")):
            browser.open(place.url + path, width=width, scheme=scheme)
            assert browser.run("return window.hacked") is None
            assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), path
            assert browser.says() == [], path


def test_keys_and_values_are_forgotten(place: Place) -> None:
    browser = place.browser
    complete(place.dq, "a\nb & <c>", '{"charged": {"amount": 12}}')
    place.dq.once("rates", lambda: {"chf": 1}, ttl=3600)
    browser.open(f"{place.url}/keys")
    browser.click("a\\nb & <c>")
    browser.shows("amount")
    browser.click("Forget…")
    browser.click("Forget this key")
    browser.shows("is forgotten.")
    assert record(place.dq, "a\nb & <c>") is None
    browser.click("Values of once")
    browser.click("rates")
    browser.shows("chf")
    browser.click("Forget…")
    browser.click("Forget this value")
    browser.shows("The value of rates is forgotten.")
    assert browser.says() == []


def test_a_breaker_is_opened_and_closed(place: Place) -> None:
    browser = place.browser
    place.dq.store.declare_queue("orders", {"breaker": 1})
    decide(place.dq, Discard('rule "no use": gone'))
    browser.open(f"{place.url}/recovery")
    browser.shows('rule "no use"')
    browser.find("input[name=seconds]").send_keys("600")
    browser.click("Open")
    browser.shows("The breaker of orders is open, and probes in 10 min.")
    browser.click("Close")
    browser.shows("The breaker of orders is closed.")
    assert browser.says() == []


def test_a_redrive_task_is_slowed_resumed_and_cancelled(place: Place) -> None:
    browser = place.browser
    bury(place.dq, 5)
    task = start_redrive(place.dq)
    browser.open(f"{place.url}/redrives")
    browser.click(f"{task.id}: requeue")
    browser.find("input[name=rate]").send_keys("0.2")
    browser.click("Set")
    browser.shows("is now 0.2/s.")
    browser.click("Resume here")
    browser.shows("This dashboard carries it out.")
    redrive = place.dq.store.require(Capability.REDRIVE)
    wait_for(lambda: redrive.redrive_task(task.id).moved > 0, what="the first step")
    shown = re.compile("[1-5] of 5")
    wait_for(lambda: shown.search(browser.text_of(".bar")), seconds=20, what="progress, live")
    browser.click("Cancel")
    browser.shows("is cancelled:")
    assert browser.says() == []


def test_a_worker_is_drained(place: Place) -> None:
    browser, worker = place.browser, register(place.dq, "worker-1:7")
    browser.open(f"{place.url}/workers")
    browser.click("Drain…")
    browser.click("Drain worker-1:7")
    browser.shows("worker-1:7 is asked to end.")
    fleet = place.dq.store.require(Capability.FLEET)
    assert [each.draining for each in fleet.workers()] == [True]
    fleet.unregister(worker.owner_id)
    browser.shows("No worker runs.")  # live
    assert browser.says() == []


def test_a_backup_is_made(place: Place) -> None:
    browser = place.browser
    browser.open(f"{place.url}/health")
    browser.click("Back up now")
    browser.shows("checked, a copy of")
    (made,) = place.backups.iterdir()
    assert str(made) in browser.text()
    assert browser.says() == []


def test_the_keyboard_reaches_these_pages(place: Place) -> None:
    browser = place.browser
    browser.open(place.url)
    browser.tab_to("Keys").send_keys(Keys.ENTER)
    wait_for(lambda: browser.run("return location.pathname") == "/keys", what="the page of keys")
    assert browser.says() == []

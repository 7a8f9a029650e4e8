"""The pages in a real browser: each page, each kind of action, live updates."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from selenium.webdriver.common.keys import Keys

from durableq import DurableQ
from durableq.model.message import Failure, Reason
from durableq.store.core import Capability
from tests.dashboard.browser import Browser, started
from tests.dashboard.serving import serving
from tests.dashboard.test_escaping import poisoned
from tests.support import new_file, wait_for

pytestmark = pytest.mark.xdist_group("browser")


class Place(NamedTuple):
    """A browser, the URL of a dashboard, and the application on its file."""

    browser: Browser
    url: str
    dq: DurableQ


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with started() as browser:
        path = new_file(tmp_path_factory.mktemp("browser") / "shop.db")
        rules = path.with_name("rules.toml")
        rules.write_text('[[rule]]\nname = "<i>all</i>"\nthen = "requeue"\n')
        with DurableQ(path) as dq, serving(path, "--rules", str(rules)) as (url, _):
            dq.queue("orders", max_receives=1)
            _ = dq.store
            yield Place(browser, url.rstrip("/"), dq)


@pytest.fixture
def place(opened: Place) -> Place:
    """The same browser and server for each test, with empty queues."""
    for info in opened.dq.store.require(Capability.INSPECT).queues():
        opened.dq.store.require(Capability.CONTROL).purge(info.name)
    opened.browser.says()
    return opened


def bury(dq: DurableQ, number: int) -> list[str]:
    ids = dq.queue("orders").send_many([{"n": n} for n in range(number)])
    received = dq.store.receive("orders", number).messages
    failure = Failure(Reason.HANDLER_ERROR, "ValueError", "it failed")
    dq.store.fail([(one.receipt, failure) for one in received if one.receipt], actor="worker")
    return ids


def test_every_page_is_whole_at_every_size(place: Place) -> None:
    browser, (dead, waiting, blob) = place.browser, poisoned(place.dq)
    place.dq.store.require(Capability.MAINTENANCE).maintain()  # a sample for the charts
    (group,) = place.dq.store.require(Capability.DEAD_LETTERS).dead_letter_groups()
    letters = f"/dead-letters?queue=orders&group={group.fingerprint}"
    messages = [f"/messages/{one}" for one in (dead, waiting, blob)]
    pages = ("/", "/queues/orders", "/workers", "/health", "/dead-letters", letters, *messages)
    for path in (*pages, "/dead-letters/dry-run", "/queues/none"):
        for width, scheme in ((1280, "light"), (360, "dark")):
            browser.open(place.url + path, width=width, scheme=scheme)
            assert browser.run("return window.hacked") is None
            assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), path
            said = [line for line in browser.says() if "404 (Not Found)" not in line]
            assert said == [], path
            if path == "/queues/orders":
                assert browser.run("return document.querySelectorAll('.chart canvas').length") == 2


def test_a_queue_is_paused_resumed_and_purged(place: Place) -> None:
    browser = place.browser
    place.dq.queue("orders").send_many([1, 2, 3])
    browser.open(f"{place.url}/queues/orders")
    browser.click("Pause")
    browser.shows("orders is paused")
    browser.click("Resume")
    browser.shows("orders is resumed")
    browser.click("Purge…")
    browser.find("input[name=name]").send_keys("orders")
    browser.click("Purge orders")
    browser.shows("Purged 3 messages of orders.")
    assert browser.says() == []


def test_a_message_is_rescheduled_run_and_cancelled(place: Place) -> None:
    browser, one = place.browser, place.dq.queue("orders").send({"n": 1})
    browser.open(f"{place.url}/messages/{one}")
    browser.click("Reschedule")
    browser.shows("as it was rescheduled by dashboard")
    browser.click("Run now")
    browser.shows("is ready")
    browser.click("Cancel")
    browser.shows("removed on request by dashboard")
    assert browser.says() == []


def test_dead_letters_are_held_redriven_and_discarded(place: Place) -> None:
    browser, ids = place.browser, bury(place.dq, 5)
    browser.open(f"{place.url}/dead-letters")
    browser.click("ValueError")
    for number, (button, says) in enumerate(
        (("Hold", "Held: 1."), ("Redrive", "Redriven: 1."), ("Discard for good", "Discarded: 1."))
    ):
        browser.find(f"input[value='{ids[number]}']").click()
        browser.click(button)
        browser.shows(says)
    browser.find("input[value=all]").click()
    browser.click("Redrive")
    browser.shows("decides about 3 letters")
    wait_for(lambda: place.dq.store.count_ready("orders", 10).number == 4, what="the redrive")
    assert browser.says() == []


def test_a_body_is_edited_and_retried(place: Place) -> None:
    browser, (one,) = place.browser, bury(place.dq, 1)
    browser.open(f"{place.url}/messages/{one}")
    browser.shows('requeue, by rule "<i>all</i>"')
    browser.find("details.edit summary").send_keys(Keys.ENTER)  # by keyboard
    form = browser.find("#edited")
    assert form.get_attribute("value") == '{\n  "n": 0\n}'
    form.clear()
    form.send_keys('{"n": 5,}')
    browser.find("details.edit input[name=note]").send_keys("a smaller order")
    browser.click("Retry with this body")
    browser.shows("The body, line 1: it is not JSON")
    form = browser.find("#edited")
    assert form.get_attribute("value") == '{"n": 5,}'  # the text of the person is still there
    form.clear()
    form.send_keys('{"n": 5}')
    browser.click("Retry with this body")
    browser.shows("is sent back with another body")
    browser.shows("a smaller order")
    assert "retried" in browser.text_of("#history")
    found = place.dq.store.require(Capability.INSPECT).message(one)
    assert found is not None
    assert found.body == '{"n":5}'


def test_pages_that_hide_and_only_read_are_whole(place: Place) -> None:
    browser, (dead, waiting, blob) = place.browser, poisoned(place.dq)
    path = place.dq.url
    with serving(Path(path), "--read-only", "--redact", "x", "--redact", "a") as (url, _):
        messages = [f"/messages/{one}" for one in (dead, waiting, blob)]
        lists = ("/queues/orders", "/dead-letters?all=1", "/queues/orders?by=text&text=x")
        for page in (*messages, *lists):
            for width, scheme in ((1280, "light"), (360, "dark")):
                browser.open(url.rstrip("/") + page, width=width, scheme=scheme)
                assert browser.run("return window.hacked") is None
                whole = "return document.documentElement.scrollWidth <= innerWidth"
                assert browser.run(whole), page
                assert browser.run("return document.querySelector('form[method=post]')") is None
                said = [line for line in browser.says() if "403 (Forbidden)" not in line]
                assert said == [], page


def test_a_held_dead_letter_is_released(place: Place) -> None:
    browser, (one,) = place.browser, bury(place.dq, 1)
    browser.open(f"{place.url}/messages/{one}")
    browser.click("Hold")
    browser.shows("It is held now.")
    browser.click("Release")
    browser.shows("Released: 1.")
    browser.shows("It is dead now.")
    browser.open(f"{place.url}/dead-letters")
    browser.click("What would recovery decide about these?")
    browser.shows("Looked at 1, to the end.")
    assert browser.says() == []


def test_a_live_page_leaves_a_note_alone(place: Place) -> None:
    browser, one = place.browser, place.dq.queue("orders").send({"n": 1}, delay=60)
    browser.open(f"{place.url}/messages/{one}")
    browser.find("#now input[name=note]").send_keys("half a no")
    browser.find("h1").click()  # the field is not active any more
    place.dq.queue("orders").reschedule(one, delay=3600)
    wait_for(lambda: "rescheduled" in browser.text_of("#history"), seconds=20, what="the event")
    assert browser.find("#now input[name=note]").get_attribute("value") == "half a no"


def test_a_page_is_live(place: Place) -> None:
    browser, queue = place.browser, place.dq.queue("orders")
    browser.open(place.url)
    browser.shows("live")
    browser.run("window.kept = true")
    queue.send_many([1, 2, 3])
    ready = "#queues td[data-label=Ready]"
    wait_for(lambda: browser.text_of(ready) == "3", seconds=20, what="the new number")
    hidden = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    browser.run(hidden % "true" + tell)
    browser.shows("paused")
    queue.send_many([4, 5])
    browser.run(hidden % "false" + tell)
    wait_for(lambda: browser.text_of(ready) == "5", seconds=20, what="the number after a pause")
    assert browser.run("return window.kept") is True  # parts were replaced, not the page
    assert browser.says() == []


def test_a_live_page_leaves_a_selection_alone(place: Place) -> None:
    browser, ids = place.browser, bury(place.dq, 2)
    browser.open(f"{place.url}/dead-letters")
    browser.click("ValueError")
    box = browser.find(f"input[value='{ids[0]}']")
    box.click()
    bury(place.dq, 1)
    wait_for(lambda: "3" in browser.text_of("#groups").split(), seconds=20, what="the new letter")
    assert box.is_selected()


def test_the_keyboard_reaches_the_content(place: Place) -> None:
    browser = place.browser
    browser.open(place.url)
    browser.find("body").send_keys(Keys.TAB)
    assert browser.run("return document.activeElement.textContent") == "Skip to the content"
    browser.find("body").send_keys(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER)
    wait_for(lambda: browser.run("return location.pathname") == "/dead-letters", what="the page")

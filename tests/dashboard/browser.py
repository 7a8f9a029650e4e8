"""A real browser at a real server: Debian's chromium, driven by selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support import wait_for

PROGRAMS = ("chromium", "chromedriver")
#: More than a page has elements before its content.
MOST_TABS = 30


class Browser:
    """A window of the browser."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1280, scheme: str = "light") -> None:
        """Open a page."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(url)

    def leave(self) -> None:
        """Leave the page: a live one looks for its server again and again, also when that ends."""
        self.driver.get("about:blank")

    def says(self) -> list[str]:
        """Return what the console has said since it was last asked."""
        driver: Any = self.driver  # get_log has no types
        return [entry["message"] for entry in driver.get_log("browser")]

    def text(self) -> str:
        """Return the text that a person sees."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def run(self, script: str) -> object:
        """Return the value of a script in the page."""
        return self.driver.execute_script(script)

    def find(self, selector: str) -> WebElement:
        """Return an element of the page."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text_of(self, selector: str) -> str:
        """Return the text of an element; the live page may replace it at any time."""
        return str(self.run(f"return document.querySelector({selector!r})?.innerText ?? ''"))

    def click(self, words: str) -> None:
        """Click the button, the link or the summary with these words."""
        find = "[...document.querySelectorAll('main :is(button, a, summary)')]"
        script = f"const it = {find}.find(e => e.innerText === {words!r}); it?.click(); return !!it"
        assert self.run(script), f"there is no {words!r} in: {self.text()}"

    def tab_to(self, words: str) -> WebElement:
        """Press the Tab key until the element with these words has the focus; return it."""
        for _ in range(MOST_TABS):
            self.driver.switch_to.active_element.send_keys(Keys.TAB)
            reached = self.driver.switch_to.active_element
            if reached.text == words:
                return reached
        raise AssertionError(f"no Tab reaches {words!r} in: {self.text()}")

    def shows(self, words: str) -> None:
        """Wait until the page shows these words."""
        wait_for(lambda: words in self.text(), seconds=20, what=f"{words!r} in the page")


@contextmanager
def started() -> Iterator[Browser]:
    """Start the browser; without one, fail in CI, and skip elsewhere."""
    paths = [shutil.which(program) for program in PROGRAMS]
    if None in paths:
        says = "Without chromium and chromedriver the pages are not tested in a browser."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"{says} On Debian: apt-get install chromium chromium-driver."
        )
    options = ChromeOptions()
    options.binary_location = str(paths[0])
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(str(paths[1])))
    try:
        yield Browser(driver)
    finally:
        driver.quit()

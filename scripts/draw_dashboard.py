"""Take the pictures of docs/DASHBOARD.md: each page at two widths, light and dark.

python -m scripts.draw_dashboard

It needs chromium and chromedriver, as the tests of the dashboard do. With Pillow installed the
pictures have a palette, and are a third as large.
"""

from __future__ import annotations

import base64
import importlib
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from durableq import DurableQ
from durableq.dashboard.look import RATE_SECONDS
from durableq.dashboard.pages import PAGES
from durableq.store.core import Capability
from scripts.example_shop import RULES, Example, fill, plan
from tests.cli.console import COMMAND, environment
from tests.dashboard.browser import Browser, started
from tests.dashboard.serving import serving
from tests.support import wait_for

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "DASHBOARD.md"
PICTURES = DOCUMENT.parent / "dashboard"
#: The pictures in the document.
SHOWN: Final = re.compile("(?<=<!-- pictures -->\n).*(?=<!-- end of pictures -->)", re.DOTALL)
WIDTHS: Final = (1280, 360)
#: Pixels of a page from its top; less of those that go on alike.
HEIGHT: Final = 1_800
HEIGHTS: Final = {"queue": 1_000, "group": 850, "keys": 800, "health": 900}
SCHEMES: Final = ("light", "dark")
COLOURS: Final = 80
#: Pages that show more with a query, by the name of their template: names of pictures, and queries.
MORE: Final = {
    "dead_letters": (("dead-letters", ""), ("group", "?{group}")),
    "keys": (("keys", "?queue=orders"), ("key", "?queue=orders&key={key}")),
}


#: The application of the workers.
APP: Final = """\
import time

from durableq import DurableQ
from scripts.example_shop import plan

dq = DurableQ("shop.db")
plan(dq)


@dq.handler("thumbnails")
def resize(message):
    time.sleep(600)
"""


def names() -> Iterator[tuple[str, str, str]]:
    """Yield each page that is HTML: a name for its pictures, its path, and a query."""
    for path, template, _ in PAGES:
        if template:
            name = template.partition(".")[0]
            for title, query in MORE.get(name, ((name.replace("_", "-"), ""),)):
                yield title, path, query


def picture(name: str, width: int, scheme: str) -> str:
    """Return the file name of a picture."""
    return f"{name}-{width}-{scheme}.png"


def shown() -> str:
    """Return the pictures of all pages as the document shows them."""
    return "".join(
        f"**{name.replace('-', ' ').capitalize()}**\n\n{images(name)}\n" for name, _, _ in names()
    )


def images(name: str) -> str:
    """Return the pictures of a page: beside each other, and of the same height or so."""
    return "".join(
        f'<img src="{PICTURES.name}/{picture(name, width, scheme)}" '
        f'width="{"36" if width > 1_000 else "12"}%" alt="{name}, {width} pixels, {scheme}">\n'
        for width, scheme in product(WIDTHS, SCHEMES)
    )


def address(path: str, query: str, example: Example) -> str:
    """Return the address of a page of the example.

    Raises:
        KeyError: the path has a part that the example does not know.
    """
    known = {
        "name": example.queue,
        "queue": example.queue,
        "id": example.redrive_id if "redrive" in path else example.message_id,
        "key": example.key,
        "group": example.group,
    }
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda part: known[part[1]], path + query)


def main() -> int:
    """Take all pictures; return the exit code."""
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        path = Path("shop.db")
        with DurableQ(path) as dq:
            example = fill(dq)
            plan(dq)
            schedules = dq.store.require(Capability.SCHEDULES)
            schedules.pause_schedule("monthly-invoices", paused=True, actor="on call")
            Path("recovery.toml").write_text(RULES, "utf-8")
            Path("shop.py").write_text(APP, "utf-8")
            options = ("--rules", "recovery.toml")
            with fleet(), serving(path, *options) as (url, _), started() as browser:
                workers = dq.store.require(Capability.FLEET).workers
                wait_for(lambda: sum(one.in_flight > 0 for one in workers()) == 3, what="work")
                dead = dq.queue("payments-dlq").info
                wait_for(lambda: not dead().counts.present, what="recovery")
                take(browser, url.rstrip("/"), example)
    DOCUMENT.write_text(SHOWN.sub(lambda _: shown(), DOCUMENT.read_text("utf-8")), "utf-8")
    return 0


@contextmanager
def fleet() -> Iterator[None]:
    """Run workers whose handlers take long, and a recovery process."""
    work = ("work", "--procs", "3", "--queue", "thumbnails", "--app", "shop:dq", "--grace", "1")
    recover = ("recover", "--policy", "recovery.toml", "--queue", "payments")
    with ExitStack() as stack:
        for words in (work, recover):
            process = subprocess.Popen(
                [*COMMAND, *words, "--db", "shop.db"],
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            run = stack.enter_context(process)
            stack.callback(run.terminate)
        yield


def take(browser: Browser, url: str, example: Example) -> None:
    """Write the pictures of all pages."""
    PICTURES.mkdir(exist_ok=True)
    for old in PICTURES.glob("*.png"):
        old.unlink()
    warm_up(browser, url)
    for name, path, query in names():
        page = url + address(path, query, example)
        height = HEIGHTS.get(name, HEIGHT)
        for width, scheme in product(WIDTHS, SCHEMES):
            browser.open(page, width=width, scheme=scheme)
            wait_for(lambda: is_ready(browser), what=page)
            file = PICTURES / picture(name, width, scheme)
            file.write_bytes(small(shot(browser, width, height if width > 1_000 else 1_500)))
            print(f"{file.name}: {file.stat().st_size:,} bytes")


def is_ready(browser: Browser) -> bool:
    """Return whether a page is live, or does not mean to be."""
    is_live = "return document.querySelector('#updates') === null"
    return browser.text_of("#live") == "live" or bool(browser.run(is_live))


def warm_up(browser: Browser, url: str) -> None:
    """Wait until the overview has rates, and the result of the health check."""
    browser.open(url)
    time.sleep(RATE_SECONDS)
    browser.open(url)
    wait_for(lambda: "being checked" not in browser.text_of("#facts"), seconds=30, what="health")


def shot(browser: Browser, width: int, most: int) -> bytes:
    """Return the page from its top, as PNG."""
    height = min(most, int(str(browser.run("return document.documentElement.scrollHeight"))))
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    taken = browser.driver.execute_cdp_cmd("Page.captureScreenshot", options)
    return base64.b64decode(taken["data"])


def small(png: bytes) -> bytes:
    """Return a picture with a palette, if Pillow is installed; otherwise as it is."""
    try:
        image: Any = importlib.import_module("PIL.Image")
    except ImportError:
        return png
    with image.open(io.BytesIO(png)) as full:
        reduced = full.convert("RGB").quantize(COLOURS, method=0, kmeans=2, dither=0)
    out = io.BytesIO()
    reduced.save(out, "PNG", optimize=True)
    return min(png, out.getvalue(), key=len)


if __name__ == "__main__":
    sys.exit(main())

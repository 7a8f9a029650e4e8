"""Take the pictures of docs/dashboard: each page of the dashboard at two widths, light and dark.

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from durableq import DurableQ
from durableq.dashboard.pages import PAGES
from durableq.store.core import Capability
from scripts.example_shop import Example, fill
from tests.cli.console import COMMAND, environment
from tests.dashboard.browser import Browser, started
from tests.dashboard.serving import serving
from tests.support import wait_for

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "dashboard"
SIZES: Final = {1280: 1_300, 360: 1_500}
SCHEMES: Final = ("light", "dark")
COLOURS: Final = 64
#: Addresses of pages that show more with a query.
QUERIES: Final = {"dead_letters": "group"}


def names() -> Iterator[tuple[str, str]]:
    """Yield each page that is HTML: a name for its pictures, and its path."""
    for path, template, _ in PAGES:
        if template:
            yield template.partition(".")[0], path


def picture(name: str, width: int, scheme: str) -> str:
    """Return the file name of a picture."""
    return f"{name.replace('_', '-')}-{width}-{scheme}.png"


def address(path: str, example: Example) -> str:
    """Return the address of a page of the example.

    Raises:
        KeyError: the path has a part that the example does not know.
    """
    known = {
        "name": example.queue,
        "queue": example.queue,
        "id": example.redrive_id if "redrive" in path else example.message_id,
        "key": example.key,
    }
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda part: known[part[1]], path)


def main() -> int:
    """Take all pictures; return the exit code."""
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        path = Path("shop.db")
        with DurableQ(path) as dq:
            example = fill(dq)
            with fleet(path), serving(path) as (url, _), started() as browser:
                workers = dq.store.require(Capability.FLEET).workers
                wait_for(lambda: sum(one.in_flight > 0 for one in workers()) == 3, what="work")
                take(browser, url.rstrip("/"), example)
    return 0


@contextmanager
def fleet(path: Path) -> Iterator[None]:
    """Run workers whose handlers take long."""
    options = ("work", "--db", str(path), "--procs", "3", "--queue", "thumbnails")
    command = [*COMMAND, *options, "--exec", "sleep 600", "--grace", "1"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as run:
        try:
            yield
        finally:
            run.terminate()


def take(browser: Browser, url: str, example: Example) -> None:
    """Write the pictures of all pages."""
    PICTURES.mkdir(exist_ok=True)
    for old in PICTURES.glob("*.png"):
        old.unlink()
    for name, path in names():
        query = f"?{example.group}" if QUERIES.get(name) == "group" else ""
        for width, height in SIZES.items():
            for scheme in SCHEMES:
                browser.open(url + address(path, example) + query, width=width, scheme=scheme)
                browser.open(url + address(path, example) + query, width=width, scheme=scheme)
                wait_for(lambda: "live" in browser.text_of("#live") or no_updates(browser))
                file = PICTURES / picture(name, width, scheme)
                file.write_bytes(small(shot(browser, width, height)))
                print(f"{file.name}: {file.stat().st_size:,} bytes")


def no_updates(browser: Browser) -> bool:
    """Return whether a page is not live."""
    return not browser.run("return !!document.querySelector('#updates')")


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
        reduced = full.convert("RGB").quantize(COLOURS, method=image.Quantize.MEDIANCUT, dither=0)
    out = io.BytesIO()
    reduced.save(out, "PNG", optimize=True)
    return min(png, out.getvalue(), key=len)


if __name__ == "__main__":
    sys.exit(main())

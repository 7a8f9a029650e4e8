"""Registering handlers, and finding the application that holds them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from durableq import AppError, DurableQ, InvalidInput
from durableq.client.handlers import load


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, whose modules are forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def module(here: Path, name: str, text: str) -> None:
    (here / f"{name}.py").write_text(dedent(text))
    importlib.invalidate_caches()


def refusal(spec: str) -> str:
    with pytest.raises(AppError) as caught:
        load(spec, DurableQ)
    return str(caught.value)


TWO = """
    from durableq import DurableQ
    first, second = DurableQ("memory://1"), DurableQ("memory://2")
    number = 7
    class box:
        inner = first
"""


def test_an_application_is_found_by_module_and_attribute(here: Path) -> None:
    module(here, "shop_two", TWO)
    assert load("shop_two:second", DurableQ).url == "memory://2"
    assert load("shop_two:box.inner", DurableQ).url == "memory://1"


def test_the_only_application_of_a_module_needs_no_name(here: Path) -> None:
    module(here, "shop_one", "from durableq import DurableQ\nany = DurableQ('memory://only')")
    assert load("shop_one", DurableQ).url == "memory://only"


def test_a_package_in_the_current_directory_is_found(here: Path) -> None:
    (here / "pkg").mkdir()
    (here / "pkg" / "__init__.py").touch()
    module(here / "pkg", "tasks", "from durableq import DurableQ\ndq = DurableQ('memory://pkg')")
    assert load("pkg.tasks:dq", DurableQ).url == "memory://pkg"


def test_a_module_with_several_applications_needs_a_name(here: Path) -> None:
    module(here, "shop_many", TWO)
    assert refusal("shop_many") == (
        "Module 'shop_many' should hold one DurableQ; it holds first and second. "
        "Name it: shop_many:NAME."
    )


def test_a_module_without_an_application_is_refused(here: Path) -> None:
    module(here, "shop_none", "")
    assert "it holds none" in refusal("shop_none")


def test_a_missing_module_is_named(here: Path) -> None:
    says = f"There is no module 'nowhere' in {here} or among installed packages."
    assert refusal("nowhere:dq") == says
    assert refusal("nowhere.deeper:dq").startswith("There is no module 'nowhere.deeper'")


def test_a_file_name_is_refused_with_the_modules_name(here: Path) -> None:
    module(here, "shop_file", TWO)
    assert refusal("shop_file.py") == "'shop_file.py' is a file. Name its module: shop_file."


def test_a_module_that_imports_a_missing_one_is_named(here: Path) -> None:
    module(here, "shop_needy", "\nimport nowhere_at_all\n")
    says = refusal("shop_needy:dq")
    assert says.startswith("Importing 'shop_needy' failed")
    assert f"({here}/shop_needy.py, line 2): ModuleNotFoundError" in says


def test_a_module_that_raises_is_named_with_file_and_line(here: Path) -> None:
    module(here, "shop_broken", "x = 1\n\ny = x / 0\n")
    says = refusal("shop_broken:dq")
    assert f"({here}/shop_broken.py, line 3): ZeroDivisionError: division by zero" in says


def test_a_script_that_exits_when_it_is_imported_is_named_too(here: Path) -> None:
    module(here, "shop_script", "import sys\nsys.exit(3)\n")
    says = refusal("shop_script:dq")
    assert f"({here}/shop_script.py, line 2): SystemExit: 3" in says


def test_a_module_whose_import_raises_further_down_is_named_where_it_raised(here: Path) -> None:
    module(here, "shop_outer", "import shop_inner\n")
    module(here, "shop_inner", "\n\n\nraise KeyError('setting')\n")
    assert f"({here}/shop_inner.py, line 4): KeyError: 'setting'" in refusal("shop_outer:dq")


def test_a_module_that_is_not_python_is_refused(here: Path) -> None:
    module(here, "shop_typo", "dq = = 1\n")
    says = refusal("shop_typo:dq")
    assert "SyntaxError" in says
    assert "shop_typo.py, line 1" in says


@pytest.mark.parametrize(
    ("attribute", "has"), [("missing", "nothing"), ("number", "a int"), ("box", "a type")]
)
def test_an_attribute_that_is_not_an_application_is_refused(
    here: Path, attribute: str, has: str
) -> None:
    module(here, "shop_odd", TWO)
    says = f"'shop_odd:{attribute}' is {has}, not a DurableQ. Check the name after the colon."
    assert refusal(f"shop_odd:{attribute}") == says


@pytest.mark.parametrize("spec", ["", ":dq", "./shop:dq", "shop/app:dq", "..shop:dq", "."])
def test_an_empty_name_is_refused(spec: str) -> None:
    assert "names no application. Write module:attribute" in refusal(spec)


def test_one_queue_has_one_handler_and_one_policy() -> None:
    dq = DurableQ("memory://")
    dq.handler("orders")(print)
    dq.recovery("orders")(print)
    with pytest.raises(InvalidInput, match=r"has a handler already[.] Handlers"):
        dq.handler("orders")
    with pytest.raises(InvalidInput, match="has a recovery policy already"):
        dq.recovery("orders")


def test_a_handler_is_left_as_it_is_and_its_numbers_are_kept() -> None:
    dq = DurableQ("memory://")

    @dq.handler("single", prefetch=5)
    @dq.handler("batch", batch=50)
    def handle(_: object) -> int:
        return 7

    assert handle(None) == 7
    single, batch = dq.handlers["single"], dq.handlers["batch"]
    assert (single.batch, single.prefetch) == (None, 5)
    assert (batch.batch, batch.prefetch) == (50, 50)


@pytest.mark.parametrize("numbers", [{"batch": 0}, {"batch": 10_001}, {"prefetch": 0}])
def test_numbers_out_of_bounds_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="is a whole number from 1 to 10000, got"):
        DurableQ("memory://").handler("orders", **numbers)


ODD_IMPORTS = {
    "odd_own": (
        "class Own(BaseException):\n"
        "    def __str__(self): raise self\n"
        "    name = property(__str__)\n"
        "raise Own",
        "Own: (its message could not be read: Own)",
    ),
    "odd_cancelled": (
        "import asyncio\nraise asyncio.CancelledError('not now')",
        "CancelledError: not now",
    ),
    "odd_generator": ("raise GeneratorExit", "GeneratorExit"),
    "odd_syntax": (
        "raise SyntaxError('bad', ('f', 1, 1, 42))",
        "SyntaxError: bad (f, line 1)",
    ),
    "odd_surrogate": ("raise ImportError('\\ud800')", "ImportError: \\ud800"),
    "odd_megabytes": ("raise ValueError('x' * 9_000_000)", "ValueError: xxx"),
}


@pytest.mark.parametrize("name", ODD_IMPORTS)
def test_a_module_that_raises_anything_is_named_with_it(here: Path, name: str) -> None:
    text, said = ODD_IMPORTS[name]
    (here / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    refused = refusal(f"{name}:dq")
    assert refused.startswith(f"Importing {name!r} failed (")
    assert said in refused
    assert len(refused) < 3_000


PROXIES = """
    from durableq import DurableQ

    class Proxy:
        @property
        def __class__(self):
            raise RuntimeError("outside of its context")

    class Exits:
        @property
        def inner(self):
            raise SystemExit(3)

    proxy, exits = Proxy(), Exits()
    app = DurableQ("memory://")
"""


def test_attributes_that_raise_are_an_error_of_the_name_and_no_crash(here: Path) -> None:
    module(here, "odd_proxies", PROXIES)
    assert load("odd_proxies", DurableQ).url == "memory://"
    assert refusal("odd_proxies:proxy") == (
        "Looking up 'odd_proxies:proxy' failed: RuntimeError: outside of its context"
    )
    assert refusal("odd_proxies:exits.inner") == (
        "Looking up 'odd_proxies:exits.inner' failed: SystemExit: 3"
    )
    module(here, "odd_lookup", "def __getattr__(name): raise GeneratorExit(name)")
    assert refusal("odd_lookup:dq").endswith("failed: GeneratorExit: dq")


def test_ctrl_c_during_an_import_is_not_the_modules_error(here: Path) -> None:
    module(here, "odd_interrupt", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("odd_interrupt", DurableQ)


def test_output_of_an_import_goes_to_stderr(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module(here, "odd_printer", "print('loading')\n" + dedent(PROXIES))
    load("odd_printer:app", DurableQ)
    assert capsys.readouterr() == ("", "loading\n")

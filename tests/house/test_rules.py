"""The tree keeps every rule, and every rule can fail."""

from pathlib import Path

import pytest

import durableq
from tests.house import groups, opening, prose, rules, sentences
from tests.house.rules import RULES, Rule
from tests.house.tree import modules

ROOT = Path(__file__).parents[2]

FLEET_FIXTURE = "@pytest.fixture(scope='module')\ndef fleet(): return Nursery()\n"

# (rule, file planted in an empty tree, its content, a part of the violation).
PLANTS: list[tuple[Rule, str, str, str]] = [
    (rules.every_module_has_a_layer, "durableq/attic.py", "", "no layer"),
    (
        rules.the_tables_name_existing_modules,
        "durableq/client/app.py",
        "",
        "durableq/model is named",
    ),
    (
        rules.imports_point_inward,
        "durableq/model/lifecycle.py",
        "from durableq.client import app",
        "(services)",
    ),
    (
        rules.imports_point_inward,
        "durableq/model/lifecycle.py",
        "from ..runtime import clock",
        "(runtime)",
    ),
    (rules.imports_point_inward, "durableq/store/core.py", "import durableq", "(api)"),
    (rules.imports_point_inward, "durableq/worker/a.py", "from ..cli import main", "(interfaces)"),
    (
        rules.imports_point_inward,
        "durableq/engines/sql/a.py",
        "from ...client import app",
        "(services)",
    ),
    (
        rules.imports_point_inward,
        "durableq/client/app.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import durableq.demo",
        "durableq/client/app.py:3 (services) imports durableq.demo (interfaces)",
    ),
    (
        rules.engines_import_no_other_engine,
        "durableq/engines/memory.py",
        "from durableq.engines.sql import tables",
        "(memory) imports durableq.engines.sql.tables",
    ),
    (
        rules.engines_import_no_other_engine,
        "durableq/engines/sql/a.py",
        "from durableq.engines.sqlite import database",
        "(sql) imports durableq.engines.sqlite.database",
    ),
    (
        rules.engines_import_no_other_engine,
        "durableq/engines/sqlite/store.py",
        "from .. import open_store",
        "(sqlite) imports durableq.engines.open_store",
    ),
    (
        rules.engines_are_opened_by_url,
        "durableq/client/app.py",
        "from durableq.engines import memory",
        "durableq.engines.memory",
    ),
    (
        rules.engines_are_opened_by_url,
        "durableq/worker/a.py",
        "from durableq.engines import open_store",
        "durableq.engines.open_store",
    ),
    (rules.engines_are_opened_by_url, "scripts/a.py", "import durableq.engines", "imports"),
    (rules.the_model_is_pure, "durableq/model/lifecycle.py", "import random", "imports random"),
    (
        rules.the_model_is_pure,
        "durableq/model/lifecycle.py",
        "def f():\n    from os import path",
        "os.path",
    ),
    (
        rules.the_model_is_pure,
        "durableq/model/message.py",
        "import datetime as d\nAT = d.datetime.now(d.UTC)",
        "d.datetime.now()",
    ),
    (
        rules.libraries_stay_in_their_packages,
        "durableq/client/app.py",
        "import sqlalchemy as sa",
        "app.py:1",
    ),
    (
        rules.libraries_stay_in_their_packages,
        "durableq/demo/a.py",
        "from rich import print",
        "rich",
    ),
    (
        rules.libraries_stay_in_their_packages,
        "durableq/runtime/clock.py",
        "import psutil",
        "psutil",
    ),
    (rules.libraries_stay_in_their_packages, "scripts/a.py", "import sqlite3", "sqlite3"),
    (rules.libraries_stay_in_their_packages, "migrations/a.py", "import numpy", "does not know"),
    (
        rules.functions_fit_on_a_screen,
        "tests/a.py",
        "async def f():\n" + "    pass\n" * 40,
        "f has 41 lines",
    ),
    (rules.modules_fit_in_a_sitting, "migrations/a.py", "\n" * 451, "has 451 lines"),
    (rules.lines_fit_the_columns, "scripts/a.py", f"A = '{'x' * 95}'", "a.py:1 has 101 columns"),
    (rules.names_are_our_words, "durableq/cli/utils.py", "", "utils"),
    (rules.names_are_our_words, "durableq/items.py", "", "items"),
    (rules.names_are_our_words, "durableq/a.py", "class SQLJob: ...", "SQLJob is named"),
    (rules.names_are_our_words, "durableq/a.py", "class Item: ...", "item"),
    (rules.names_are_our_words, "durableq/a.py", "def _claim_all(): ...", "claim"),
    (rules.the_public_api_is_listed, "durableq/__init__.py", "", "no literal __all__"),
    (rules.the_public_api_is_listed, "durableq/__init__.py", "__all__ = ['a']", "lists a,"),
    (
        rules.the_public_api_is_listed,
        "durableq/__init__.py",
        "from x import a, b\n__all__ = ['b', 'a']",
        "not in sorted() order",
    ),
    (
        rules.the_public_api_is_listed,
        "durableq/__init__.py",
        "from x import a\nif a:\n    import b\n__all__ = ['a']",
        "shows b",
    ),
    (
        opening.engines_open_no_file,
        "durableq/engines/a.py",
        "open(path + '-shm')",
        "drops our locks",
    ),
    (
        opening.engines_open_no_file,
        "durableq/engines/a.py",
        "path.read_bytes()",
        "path.read_bytes()",
    ),
    (opening.engines_open_no_file, "durableq/engines/a.py", "shutil.copy(a, b)", "shutil.copy"),
    (rules.the_design_names_every_module, "durableq/attic.py", "", "no entry in docs/DESIGN.md"),
    (rules.public_names_have_a_docstring, "durableq/a.py", "'''A.'''\ndef f(): ...", "f has no"),
    (rules.public_names_have_a_docstring, "durableq/a.py", "A = 1", "a.py:1 has no docstring"),
    (
        rules.public_names_have_a_docstring,
        "durableq/a.py",
        "'''A.'''\nclass B:\n    '''B.'''\n    @property\n    def c(self): ...",
        "a.py:5 c has no docstring",
    ),
    (
        prose.prose_is_plain,
        "durableq/model/a.py",
        "A = 1  # what somebody does here",
        "durableq/model: 500.0 of 1,000 words are vague",
    ),
    (
        prose.docstrings_begin_with_a_verb_or_a_noun,
        "durableq/model/a.py",
        'def f():\n    """What it does."""',
        "a.py:2 begins with 'What'",
    ),
    (
        prose.names_of_tests_are_plain,
        "tests/unit/a.py",
        "def test_what_is_sent(): ...",
        "a.py:1 test_what_is_sent has what in its name",
    ),
    (rules.names_are_our_words, "durableq/a.py", "class SharedBoard: ...", "board"),
    (rules.tests_wait_for_facts, "tests/a.py", "import time as t\nt.sleep(1)", "t.sleep"),
    (rules.tests_wait_for_facts, "tests/a.py", "from time import sleep", "time.sleep"),
    (rules.tests_wait_for_facts, "tests/support.py", "import time\ntime.sleep(1)", "time.sleep"),
    (
        sentences.log_lines_give_no_advice,
        "durableq/worker/a.py",
        "try:\n    f()\nexcept DurableQError as error:\n    log.warning('later: %s', error)",
        "durableq/worker/a.py:4 logs error as it is",
    ),
    (
        sentences.log_lines_give_no_advice,
        "durableq/worker/a.py",
        "def f(self):\n  try: g()\n  except PASSING as e: self._emit('busy', f'later: {e}')",
        "logs e as it is",
    ),
    (
        sentences.log_lines_give_no_advice,
        "durableq/worker/a.py",
        "log.warning('the database is busy: try again')",
        "logs advice: 'the database is busy: try again'",
    ),
    (
        groups.fixtures_that_start_processes_have_a_group,
        "tests/a.py",
        FLEET_FIXTURE + "def test_a(fleet): ...",
        "a.py:3 test_a uses a fixture of processes",
    ),
    (
        groups.fixtures_that_start_processes_have_a_group,
        "tests/a.py",
        FLEET_FIXTURE + "@pytest.fixture\ndef pids(fleet): ...\ndef test_a(pids): ...",
        "a.py:5 test_a uses a fixture of processes",
    ),
    (rules.no_file_names_a_machine_or_a_registry, "README.md", "cd /" + "root/x", "README.md:1"),
    (rules.no_file_names_a_machine_or_a_registry, "c.txt", "-i https://py" + "pi.org/", "c.txt:1"),
]

# Code that resembles a violation and is none.
INNOCENT: list[tuple[Rule, str, str]] = [
    (
        sentences.log_lines_give_no_advice,
        "durableq/worker/a.py",
        "try:\n    f()\nexcept Busy as error:\n    log.warning('later: %s', describe(error))",
    ),
    (
        sentences.log_lines_give_no_advice,
        "durableq/worker/a.py",
        "try:\n    f()\nexcept OSError as error:\n    log.warning('later: %s', error)",
    ),
    (rules.imports_point_inward, "durableq/model/message.py", "from .errors import A\nimport json"),
    (rules.imports_point_inward, "durableq/__main__.py", "from durableq.cli import main"),
    (rules.engines_import_no_other_engine, "durableq/engines/__init__.py", "from . import sql"),
    (rules.engines_import_no_other_engine, "durableq/engines/sql/a.py", "from . import tables"),
    (
        rules.engines_are_opened_by_url,
        "durableq/client/app.py",
        "from durableq.engines import open_store",
    ),
    (rules.the_model_is_pure, "durableq/model/lifecycle.py", "from datetime import timedelta"),
    (
        rules.libraries_stay_in_their_packages,
        "durableq/engines/sql/definitions/a.py",
        "import sqlalchemy.types",
    ),
    (
        rules.functions_fit_on_a_screen,
        "durableq/a.py",
        "def f():\n    '''A." + "\n" * 60 + "    '''\n" + "    pass\n" * 39,
    ),
    (rules.names_are_our_words, "durableq/a.py", "def items(): ...\nclass Blockade: ..."),
    (
        rules.the_public_api_is_listed,
        "durableq/__init__.py",
        "from x import B, a\n__version__ = '1'\n__all__ = ['B', '__version__', 'a']",
    ),
    (opening.engines_open_no_file, "durableq/engines/a.py", "open('/proc/locks')\nos.stat(path)"),
    (rules.public_names_have_a_docstring, "durableq/a.py", "'''A.'''\ndef _f(): ..."),
    (
        rules.tests_wait_for_facts,
        "tests/support.py",
        "import time\ndef wait_for():\n    time.sleep(1)",
    ),
    (
        groups.fixtures_that_start_processes_have_a_group,
        "tests/a.py",
        FLEET_FIXTURE + "@pytest.mark.xdist_group('a')\ndef test_a(fleet): ...",
    ),
    (
        groups.fixtures_that_start_processes_have_a_group,
        "tests/a.py",
        "pytestmark = pytest.mark.xdist_group('a')\n" + FLEET_FIXTURE + "def test_a(fleet): ...",
    ),
    (rules.no_file_names_a_machine_or_a_registry, "README.md", "see frame/" + "work/a"),
]


def plant(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, "utf-8")


@pytest.mark.xdist_group("house")  # one process parses the tree, once
@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_the_tree_keeps_the_rule_that(rule: Rule) -> None:
    assert modules(ROOT, "durableq"), "There is nothing in durableq/ to hold to the rules."
    violations = list(rule(ROOT))
    assert not violations, "\n".join(["the tree breaks it:", *violations])


@pytest.mark.xdist_group("house")
def test_a_group_of_tests_runs_in_one_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist finds the group at the end of the identifier, where it has put it.

    Where it cannot, nothing fails: each process types the sessions of the README, by itself.
    """
    is_grouped = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@house") == is_grouped


@pytest.mark.parametrize(
    ("rule", "path", "text", "says"),
    PLANTS,
    ids=[f"{rule.__name__}-{number}" for number, (rule, *_) in enumerate(PLANTS)],
)
def test_a_planted_violation_is_seen_by(
    rule: Rule, path: str, text: str, says: str, tmp_path: Path
) -> None:
    plant(tmp_path, path, text)
    assert says in "\n".join(rule(tmp_path))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    INNOCENT,
    ids=[f"{rule.__name__}-{number}" for number, (rule, *_) in enumerate(INNOCENT)],
)
def test_innocent_code_passes_the_rule_that(
    rule: Rule, path: str, text: str, tmp_path: Path
) -> None:
    plant(tmp_path, path, text)
    assert list(rule(tmp_path)) == []


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule.__name__ for rule, *_ in PLANTS} == {rule.__name__ for rule in RULES}


def test_every_name_of_the_public_api_can_be_imported() -> None:
    assert [name for name in durableq.__all__ if not hasattr(durableq, name)] == []

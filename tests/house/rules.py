"""The rules of the house, one function each: a tree's root in, its violations out.

Everything that a change of plan may touch stands in the tables at the top, and in layers.py.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.house.groups import fixtures_that_start_processes_have_a_group
from tests.house.layers import LAYERS, MAY_IMPORT
from tests.house.opening import MAY_OPEN, called, engines_open_no_file
from tests.house.prose import (
    docstrings_begin_with_a_verb_or_a_noun,
    names_of_tests_are_plain,
    prose_is_plain,
)
from tests.house.sentences import log_lines_give_no_advice
from tests.house.tree import Definition, Function, Module, modules, tracked

Rule = Callable[[Path], Iterator[str]]

# An engine imports the shared SQL code, never another engine; each may import the ORM Session.
ENGINE_MAY_IMPORT = {name: {name, "sql"} for name in ("sqlite", "postgres", "sql")}

# The modules that open stores, and the functions of durableq.engines that they may import.
MAY_OPEN_ENGINES = {
    "durableq/client/app.py",
    "durableq/contrib/pytest/isolation.py",
    "durableq/admin/operations.py",
    "durableq/admin/transfer.py",
    "durableq/admin/transfer_plan.py",
}
ENGINE_FUNCTIONS = {
    f"durableq.engines.{name}"
    for name in (
        *("open_store", "create_store", "file_of", "open_end", "is_postgres", "is_served"),
        *("is_there", "examine_store", "queues_in", "queue_names_in", "registered_workers"),
        *("estimate_upgrade", "back_up_store", "restore_store", "library_versions"),
        "schedules_in",
    )
}

# The checker of demo and chaos reads the database by itself, but with the same driver. A script
# generates the engines' texts.
MAY_REACH_INTO_ENGINES = {
    ("durableq/demo/reading.py", "durableq.engines.is_postgres"),
    ("durableq/demo/reading.py", "durableq.engines.postgres.driver.driver"),
    ("durableq/demo/reading.py", "durableq.engines.postgres.location.Location"),
    ("durableq/demo/reading.py", "durableq.engines.sqlite.driver.driver"),
    # Django's backend is on the same library, and its connections wait as ours.
    ("durableq/contrib/django/sqlite3/base.py", "durableq.engines.sqlite.application_connection"),
    # The benchmark's statements by hand run on the same library.
    ("durableq/bench/raw.py", "durableq.engines.sqlite.driver.driver"),
    # Its slow disk is a wait before COMMIT.
    ("durableq/bench/serve_variant.py", "durableq.engines.sqlite.database.Database"),
    ("durableq/bench/postgres/server.py", "durableq.engines.postgres.connecting.connect"),
    ("durableq/bench/postgres/server.py", "durableq.engines.postgres.driver.driver"),
    ("durableq/bench/postgres/server.py", "durableq.engines.postgres.location.Location"),
    ("scripts/wal_reset.py", "durableq.engines.sqlite.driver.driver"),
    ("scripts/wal_reset.py", "durableq.engines.sqlite.driver.is_affected"),
    ("scripts/wal_reset.py", "durableq.engines.sqlite.checkpoints.Checkpointer"),
    ("scripts/write_statements.py", "durableq.engines.sql.definitions.generation"),
    ("scripts/write_statements.py", "durableq.engines.sqlite.compiler"),
    ("scripts/write_statements.py", "durableq.engines.postgres.compiler"),
    # The tables of PostgreSQL's first migration, and the capabilities without a server.
    *(
        (f"scripts/{script}.py", f"durableq.engines.{name}")
        for script, *names in (
            (
                "keep_revision",
                "postgres.schema",
                "postgres.statements",
                "postgres.tables",
                "sql.migrating",
            ),
            ("engine_table", "memory", "sqlite.store", "postgres.store"),
        )
        for name in names
    ),
}

# The standard modules that the model may import, and the calls that it may not make.
PURE = {
    "__future__", "abc", "base64", "binascii", "collections", "contextlib", "copy", "dataclasses",
    "datetime", "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "itertools",
    "json", "math", "operator", "re", "reprlib", "string", "struct", "textwrap", "types", "typing",
    "unicodedata", "uuid",
}  # fmt: skip
IMPURE_CALLS = {"now", "utcnow", "today", "uuid1", "uuid4", "open", "input", "print"}

SQL_ENGINES = ("durableq/engines/sqlite", "durableq/engines/postgres")
_WITH_SQL = ("sql/definitions", "sql/joining.py", "sql/migrating.py", "memory/rows.py", "orm.py")
SQL_PARTS = {f"durableq/engines/{name}" for name in _WITH_SQL}
# Each library beyond the standard one (and sqlite3), and the only places that import it.
LIBRARIES = {
    "sqlalchemy": {*SQL_ENGINES, *SQL_PARTS, "migrations"},
    "psycopg": {"durableq/engines/postgres", "scripts/keep_revision.py"},
    "alembic": {"durableq/engines/sql/migrating.py", "migrations"},
    "pysqlite3": {"durableq/engines/sqlite/driver.py"},
    "sqlite3": {"durableq/engines/sqlite/driver.py"},
    "pydantic": {"durableq/recovery", "durableq/runtime/objects.py"},
    "pydantic_core": {"durableq/recovery", "durableq/runtime/objects.py"},
    "regex": {"durableq/recovery/rule_values.py"},
    "cronsim": {"durableq/runtime/cron.py"},
    "typer": {"durableq/cli"},
    "rich": {"durableq/cli"},
    "starlette": {"durableq/dashboard"},
    "httptools": {"durableq/serve/connections.py"},
    "uvicorn": {"durableq/runtime/http_server.py", "durableq/serve/connections.py"},
    "jinja2": {"durableq/dashboard/rendering.py"},
    "anyio": {"durableq/dashboard"},
    "psutil": {
        "durableq/bench",
        "durableq/supervisor/liveness.py",
        "durableq/supervisor/worker_process.py",
        "durableq/testing/chaos",
        "durableq/demo",
    },
    "django": {"durableq/contrib/django"},
    "boto3": {"durableq/bench/serve.py"},
    "botocore": {"durableq/bench/serve.py"},
    "asgiref": {"durableq/contrib/django/project.py"},
    "aws_lambda_powertools": {"durableq/contrib/powertools.py"},
    "inotify_simple": {"durableq/engines/sqlite/wakeup.py"},
    "pytest": {"durableq/contrib/pytest", "durableq/testing"},
    "packaging": {"scripts/wheels.py"},
    # Pictures and captures are taken as the tests look: by a browser, on a terminal.
    "tests": {
        f"scripts/{name}.py" for name in ("capture_output", "draw_dashboard", "time_dashboard")
    },
    "typing_extensions": {"durableq/client/delivery.py"},
    "opentelemetry": {"durableq/client/tracing.py"},
    "prometheus_client": {"durableq/metrics"},
}

# What `make statements` writes; a test compares it with the definitions.
GENERATED = {f"durableq/engines/{engine}/statements.py" for engine in ("sql", "sqlite", "postgres")}

FUNCTION_LINES = 40
MODULE_LINES = 450
COLUMNS = 100

# Names of release 0.1 that gave way to the terms of docs/GLOSSARY.md, as whole words of a name.
RETIRED = {
    "board", "books", "care", "desk", "dice", "gate", "intake", "lane", "latch", "office",
    "patience", "settler", "tend", "tending", "verdict",
}  # fmt: skip

NOT_OUR_WORDS = {"job", "task", "claim", "manager", "helper", "util", "common"}
NOT_OUR_NOUNS = {"item"}  # as a class or a module; a mapping's items() is Python's own word
# Where the items of DynamoDB are meant: the modules of this capability, and its server.
MAY_HAVE_ITEMS = re.compile(r"durableq/(?:serve/dynamodb/\w+|[\w/]+/item(?:s|_tables))[.]py")

# The functions in which a test sleeps: (path, function).
MAY_SLEEP = {
    ("tests/support.py", "wait_for"),
    ("tests/foreign/smoke.py", "wait_for"),  # where this tree's packages are not installed
}

NO_DOCSTRING_NEEDED = {"overload", "override", "setter", "deleter"}

MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home)/")
REGISTRY = re.compile(r"pypi[.]org|pythonhosted[.]org|(?:--|-|_)index[-_]url", re.IGNORECASE)


def is_in(path: str, places: set[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def layer_of(name: str) -> str | None:
    """Return the layer of a dotted name below durableq, or None."""
    parts = name.split(".")
    prefixes = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next((LAYERS[prefix] for prefix in prefixes if prefix in LAYERS), None)


def layer_of_module(module: Module) -> str | None:
    return layer_of(".".join(module.names[1:]))


def every_module_has_a_layer(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq"):
        if layer_of_module(module) is None:
            yield f"{module.path}:1 has no layer; name its package in LAYERS"


def the_tables_name_existing_modules(root: Path) -> Iterator[str]:
    named = {f"durableq/{name.replace('.', '/')}" for name in LAYERS}
    named |= MAY_OPEN_ENGINES.union(*LIBRARIES.values())
    named |= {path for path, _ in MAY_OPEN | MAY_SLEEP | MAY_REACH_INTO_ENGINES} | GENERATED
    for path in sorted(named):
        if not (root / path).exists() and not (root / f"{path}.py").exists():
            yield f"{path} is named in the tables of the rules, but not there"


def imports_point_inward(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq"):
        here = layer_of_module(module)
        for alias, name in module.imports():
            top, _, rest = name.partition(".")
            there = layer_of(rest) or "api"
            if top != "durableq" or here is None or there in MAY_IMPORT[here]:
                continue
            if there != "engines":  # engines have rules of their own
                yield module.at(alias, f"({here}) imports {name} ({there})")


def engines_import_no_other_engine(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq/engines"):
        engine = module.names[2]
        for alias, name in module.imports():
            parts = name.split(".")
            if parts[:2] != ["durableq", "engines"] or engine == "__init__":
                continue
            if not {*parts[2:3]} & {"orm", *ENGINE_MAY_IMPORT.get(engine, {engine})}:
                yield module.at(alias, f"({engine}) imports {name}")


def engines_are_opened_by_url(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq", "scripts"):
        for alias, name in module.imports():
            if not is_in(name.replace(".", "/"), {"durableq/engines"}):
                continue
            if is_in(module.path, {"durableq/engines"}):
                continue
            if (module.path, name) in MAY_REACH_INTO_ENGINES:
                continue
            if name not in ENGINE_FUNCTIONS or module.path not in MAY_OPEN_ENGINES:
                yield module.at(alias, f"imports {name}")


def the_model_is_pure(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq/model"):
        for alias, name in module.imports():
            if name.split(".")[0] not in PURE | {"durableq"}:
                yield module.at(alias, f"imports {name}; the model does no I/O and has no clock")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and called(node) in IMPURE_CALLS:
                yield module.at(node, f"calls {ast.unparse(node.func)}(); take its answer instead")


def libraries_stay_in_their_packages(root: Path) -> Iterator[str]:
    ours = {"durableq", "migrations", "scripts"}
    for module in modules(root, *sorted(ours)):
        for alias, name in module.imports():
            library = name.split(".")[0]
            if library in LIBRARIES:
                if not is_in(module.path, LIBRARIES[library]):
                    yield module.at(alias, f"imports {name}")
            elif library not in sys.stdlib_module_names | ours:
                yield module.at(alias, f"imports {name}, which LIBRARIES does not know")


def functions_fit_on_a_screen(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq", "migrations", "scripts", "tests"):
        for node, _ in module.definitions():
            if isinstance(node, Function) and (lines := length(node)) > FUNCTION_LINES:
                says = f"{node.name} has {lines} lines; {FUNCTION_LINES} are a screen"
                yield module.at(node, says)


def length(function: Function) -> int:
    """From `def` to the end, without the docstring."""
    size = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        size -= (first.end_lineno or first.lineno) - first.lineno + 1
    return size


def modules_fit_in_a_sitting(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq", "migrations", "scripts", "tests"):
        lines = len(module.text.splitlines())
        if lines > MODULE_LINES and module.path not in GENERATED:
            yield f"{module.path}:{lines} has {lines} lines; {MODULE_LINES} are a sitting"


def lines_fit_the_columns(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq", "migrations", "scripts", "tests"):
        for number, line in enumerate(module.text.splitlines(), 1):
            if len(line) > COLUMNS:
                yield f"{module.path}:{number} has {len(line)} columns; {COLUMNS} are a line"


def names_are_our_words(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq"):
        nouns = set() if MAY_HAVE_ITEMS.fullmatch(module.path) else NOT_OUR_NOUNS
        for part in module.names[1:]:
            for word in not_ours(part, NOT_OUR_WORDS | nouns | RETIRED):
                yield f"{module.path}:1 is named with {word!r}"
        for node, _ in module.definitions():
            named = nouns if isinstance(node, ast.ClassDef) else set()
            for word in not_ours(node.name, NOT_OUR_WORDS | named | RETIRED):
                yield module.at(node, f"{node.name} is named with {word!r}")


def not_ours(name: str, words: set[str]) -> list[str]:
    """The words of snake_case or CamelCase that are on the list, also in the plural."""
    name = re.sub(r"[Rr]edrive_?[Tt]asks?", "", name)  # SQS calls it a message move task
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [part for part in map(str.lower, parts) if {part, part.removesuffix("s")} & words]


def the_public_api_is_listed(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq"):
        if module.path != "durableq/__init__.py":
            continue
        shown = set(bound(module.tree))
        listed = next(map(listed_in, filter(is_all, module.tree.body)), None)
        if listed is None:
            yield f"{module.path}:1 has no literal __all__"
            continue
        if listed != sorted(listed):
            yield f"{module.path}:1 __all__ is not in sorted() order"
        for name in sorted(set(listed) - shown):
            yield f"{module.path}:1 lists {name}, which it does not have"
        for name in sorted(shown - set(listed)):
            if not name.startswith("_"):
                yield f"{module.path}:1 shows {name}, which __all__ does not list"


def is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in bound(node)


def listed_in(node: ast.stmt) -> list[str] | None:
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if not isinstance(value, ast.List | ast.Tuple):
        return None
    return [str(name.value) for name in value.elts if isinstance(name, ast.Constant)]


def bound(node: ast.AST) -> Iterator[str]:
    """The names that these statements bind in the module, and so show to others."""
    if isinstance(node, Definition):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        if getattr(node, "module", None) != "__future__":
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    else:
        for child in ast.iter_child_nodes(node):
            yield from bound(child)


def the_design_names_every_module(root: Path) -> Iterator[str]:
    design = root / "docs/DESIGN.md"
    page = design.read_text("utf-8") if design.exists() else ""
    named = set(re.findall(r"`(?:[\w/]+/)?(\w+[.]py)`", page))
    folders = re.findall(r"`(durableq/[\w/]+/)`", page)
    for module in modules(root, "durableq"):
        name = module.path.rpartition("/")[2]
        is_named = name in named or module.path.startswith(tuple(folders))
        if not is_named and name not in {"__init__.py", "__main__.py"}:
            yield f"{module.path}:1 has no entry in docs/DESIGN.md"


def public_names_have_a_docstring(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq"):
        if module.text.strip() and not ast.get_docstring(module.tree):
            yield f"{module.path}:1 has no docstring"
        for node, around in module.definitions():
            marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
            if ast.get_docstring(node) or marks & NO_DOCSTRING_NEEDED:
                continue
            if module.path.startswith("durableq/testing/") and node.name.startswith("test_"):
                continue  # its name is its sentence
            reachable = all(isinstance(outer, ast.ClassDef) for outer in around)
            if reachable and not any(part.name.startswith("_") for part in (*around, node)):
                yield module.at(node, f"{node.name} has no docstring")


def tests_wait_for_facts(root: Path) -> Iterator[str]:
    for module in modules(root, "tests"):
        clocks = {"time", "asyncio"} | {
            alias.asname for alias, name in module.imports() if name in {"time", "asyncio"}
        }
        for alias, name in module.imports():
            if name in {"time.sleep", "asyncio.sleep"}:
                yield module.at(alias, f"imports {name}; wait_for(a fact) instead")
        for node, around in module.walk():
            if not isinstance(node, ast.Attribute) or node.attr != "sleep":
                continue
            inside = {(module.path, outer.name) for outer in around}
            if ast.unparse(node.value) in clocks and not inside & MAY_SLEEP:
                yield module.at(node, f"{ast.unparse(node)}; wait_for(a fact) instead")


def no_file_names_a_machine_or_a_registry(root: Path) -> Iterator[str]:
    for path in tracked(root):
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            for found in (MACHINE_PATH.search(line), REGISTRY.search(line)):
                if found:
                    yield f"{path.relative_to(root).as_posix()}:{number} names {found[0]}"


RULES: list[Rule] = [
    every_module_has_a_layer,
    the_tables_name_existing_modules,
    imports_point_inward,
    engines_import_no_other_engine,
    engines_are_opened_by_url,
    the_model_is_pure,
    libraries_stay_in_their_packages,
    functions_fit_on_a_screen,
    modules_fit_in_a_sitting,
    lines_fit_the_columns,
    names_are_our_words,
    the_public_api_is_listed,
    engines_open_no_file,
    the_design_names_every_module,
    public_names_have_a_docstring,
    prose_is_plain,
    docstrings_begin_with_a_verb_or_a_noun,
    names_of_tests_are_plain,
    log_lines_give_no_advice,
    tests_wait_for_facts,
    fixtures_that_start_processes_have_a_group,
    no_file_names_a_machine_or_a_registry,
]

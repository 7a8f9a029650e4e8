"""The rule that no code of an engine opens the database's file but SQLite."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import modules

# Files that an engine may open beside /proc: (path, the call as ast.unparse writes it).
MAY_OPEN: set[tuple[str, str]] = {
    # In place of the sockets of the parent, in a forked child.
    ("durableq/engines/postgres/forking.py", "os.open(os.devnull, os.O_RDWR)"),
    # The marker of a backup or restore; a copy that has no name yet, or its directory.
    ("durableq/engines/sqlite/copy_marker.py", "os.open(path, flags | os.O_CLOEXEC, 384)"),
    (
        "durableq/engines/sqlite/copy_marker.py",
        "os.open(marker_path(target), os.O_RDONLY | os.O_CLOEXEC)",
    ),
    (
        "durableq/engines/sqlite/copy_marker.py",
        "os.open(self.partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 384)",
    ),
    ("durableq/engines/sqlite/copy_marker.py", "os.open(path, os.O_RDONLY | os.O_CLOEXEC)"),
    # The log, for reading: SQLite locks no byte of it.
    (
        "durableq/engines/sqlite/ticket.py",
        "os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)",
    ),
    # A new file, which no connection has open yet.
    (
        "durableq/engines/sqlite/open_files.py",
        "os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 384)",
    ),
}
OPENS = {"open", "fdopen", "read_text", "read_bytes", "write_text", "write_bytes", "touch"}
COPIES = {"shutil"}


def engines_open_no_file(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq/engines"):
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call) or reads_proc(node):
                continue
            call = ast.unparse(node)
            copies = call.split(".")[0] in COPIES
            if (copies or called(node) in OPENS) and (module.path, call) not in MAY_OPEN:
                yield module.at(node, f"{call}: closing the database's file drops our locks on it")


def called(node: ast.Call) -> str:
    """Return the last name of a call: `open` of open(), os.open() and path.open()."""
    return ast.unparse(node.func).rpartition(".")[2]


def reads_proc(node: ast.Call) -> bool:
    constants = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return any(isinstance(value, str) and value.startswith("/proc/") for value in constants)

"""The source tree as the rules see it: modules are parsed, never imported, and each only once."""

import ast
import re
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef

NOT_OURS = re.compile(r"(^|/)(\.git|\.venv|\.\w+_cache|\.hypothesis|__pycache__|build|dist)/")


@dataclass(frozen=True)
class Module:
    """One Python file: its path from the top of the tree, its text, its syntax."""

    path: str
    text: str
    tree: ast.Module

    @property
    def names(self) -> list[str]:
        """The dotted name in parts; a package's `__init__` keeps that last part."""
        return self.path.removesuffix(".py").split("/")

    def at(self, node: ast.stmt | ast.expr | ast.alias, says: str) -> str:
        return f"{self.path}:{node.lineno} {says}"

    def imports(self) -> list[tuple[ast.alias, str]]:
        """Return every name imported anywhere in the file, also under TYPE_CHECKING, in full.

        `from a import b` is `a.b`, whether b is a module or not; relative imports are resolved.
        """
        return self._imports

    def walk(self) -> list[tuple[ast.AST, tuple[Definition, ...]]]:
        """Return every node with the classes and functions around it, outermost first."""
        return self._nodes

    def definitions(self) -> list[tuple[Definition, tuple[Definition, ...]]]:
        """Return the classes and functions, each with those around it."""
        return self._definitions

    @cached_property
    def _imports(self) -> list[tuple[ast.alias, str]]:
        found: list[tuple[ast.alias, str]] = []
        for node, _ in self._nodes:
            if isinstance(node, ast.Import):
                found += ((alias, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self.names[: -node.level] if node.level else []
                origin = [*base, *([node.module] if node.module else [])]
                found += ((alias, ".".join([*origin, alias.name])) for alias in node.names)
        return found

    @cached_property
    def _nodes(self) -> list[tuple[ast.AST, tuple[Definition, ...]]]:
        found: list[tuple[ast.AST, tuple[Definition, ...]]] = []
        stack: list[tuple[ast.AST, tuple[Definition, ...]]] = [(self.tree, ())]
        while stack:
            node, around = stack.pop()
            found.append((node, around))
            inside = (*around, node) if isinstance(node, Definition) else around
            stack.extend((child, inside) for child in reversed(list(ast.iter_child_nodes(node))))
        return found

    @cached_property
    def _definitions(self) -> list[tuple[Definition, tuple[Definition, ...]]]:
        return [(node, around) for node, around in self._nodes if isinstance(node, Definition)]


def modules(root: Path, *tops: str) -> list[Module]:
    """Return every Python file under these folders, in order."""
    paths = sorted(path for top in tops for path in (root / top).rglob("*.py"))
    texts = [(path.relative_to(root).as_posix(), path.read_text("utf-8")) for path in paths]
    return [parsed(path, text) for path, text in texts]


@cache
def parsed(path: str, text: str) -> Module:
    """Return the module with this text, which all rules share."""
    return Module(path, text, ast.parse(text, path))


def tracked(root: Path) -> list[Path]:
    """The files git tracks; all files that are ours where there is no git."""
    try:
        listing = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=False
        ).stdout.decode()
    except FileNotFoundError:
        listing = ""
    listed = [root / name for name in listing.split("\0") if name]
    return [path for path in listed or sorted(root.rglob("*")) if is_ours(path, root)]


def is_ours(path: Path, root: Path) -> bool:
    return path.is_file() and not NOT_OURS.search(path.relative_to(root).as_posix())

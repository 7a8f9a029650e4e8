"""The prose of a Python file: its docstrings and comments, and the words that they should avoid."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import modules

# The folders whose docstrings and comments are counted; each joins when its prose is done.
PLAIN_PROSE = {
    "durableq/admin",
    "durableq/bench",
    "durableq/cli",
    "durableq/engines",
    "durableq/metrics",
    "durableq/store",
    "migrations",
    "scripts",
    "durableq/client",
    "durableq/dashboard",
    "durableq/demo",
    "durableq/model",
    "durableq/recovery",
    "durableq/runtime",
    "durableq/serve",
    "durableq/supervisor",
    "durableq/testing",
    "durableq/worker",
    "tests",
}

# Words instead of a noun. httpx uses them 0.6 times in 1,000 words, procrastinate 0.4.
VAGUE = {"what", "whatever", "whoever", "somebody", "nobody"}
MAX_VAGUE_PER_1000 = 3
FIRST_WORDS = {"What", "Whatever", "Whoever", "Where", "Of"}
DIRECTIVES = re.compile(r"#\s*(?:noqa|type:|fmt:|pragma)")
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring, those below constants included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                text = statement.value.value
                if isinstance(text, str):
                    yield statement.lineno, text


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment except directives of tools."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not DIRECTIVES.match(token.string):
            yield token.start[0], token.string.lstrip("#: ")


def vague_words(text: str) -> tuple[int, int]:
    """Return the number of vague words in a text, and of all words."""
    words = [word.lower() for word in WORD.findall(text)]
    return sum(word in VAGUE for word in words), len(words)


def begins_badly(docstring: str) -> bool:
    """Return whether the first word of a docstring is one of FIRST_WORDS."""
    first = WORD.match(docstring.lstrip())
    return first is not None and first[0] in FIRST_WORDS


def prose_is_plain(root: Path) -> Iterator[str]:
    for package in sorted(PLAIN_PROSE):
        vague = words = 0
        for module in modules(root, package):
            texts = [*docstrings(module.tree), *comments(module.text)]
            for _, text in texts:
                here = vague_words(text)
                vague, words = vague + here[0], words + here[1]
        if vague * 1000 > words * MAX_VAGUE_PER_1000:
            share = f"{vague * 1000 / words:.1f} of 1,000 words are"
            yield f"{package}: {share} vague ({', '.join(sorted(VAGUE))})"


def docstrings_begin_with_a_verb_or_a_noun(root: Path) -> Iterator[str]:
    for package in sorted(PLAIN_PROSE):
        for module in modules(root, package):
            for line, text in docstrings(module.tree):
                if begins_badly(text):
                    yield f"{module.path}:{line} begins with {text.split()[0]!r}"


def names_of_tests_are_plain(root: Path) -> Iterator[str]:
    for package in sorted(PLAIN_PROSE):
        for module in modules(root, package):
            for node, _ in module.definitions():
                if node.name.startswith("test_") and (words := VAGUE & {*node.name.split("_")}):
                    yield module.at(node, f"{node.name} has {', '.join(sorted(words))} in its name")

"""Expressions as tokens, and the names and values that they refer to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

from durableq.serve.dynamodb.reserved import RESERVED
from durableq.serve.dynamodb.values import (
    Attribute,
    SerializationError,
    ValidationError,
    checked,
    utf8,
)

#: A way into an item: names of maps, and numbers of lists.
Path = tuple[str | int, ...]

MAX_EXPRESSION_BYTES: Final = 4096
MAX_OPERATORS: Final = 300
#: Parentheses within each other, for the stack's sake; DynamoDB's own bound is not documented.
MAX_PARENTHESES: Final = 64

_TOKEN: Final = re.compile(
    r"(?P<space>[ \t\r\n\f]+)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<name>\#[A-Za-z0-9_]+)"
    r"|(?P<value>:[A-Za-z0-9_]+)|(?P<index>[0-9]+)"
    r"|(?P<sign><>|<=|>=|[=<>(),.+\-\[\]])|(?P<other>.)",
    re.DOTALL,
)
_SUBSTITUTE: Final = re.compile(r"[A-Za-z0-9_]+", re.ASCII)


class Token(NamedTuple):
    """A part of an expression; the one at its end is of the kind "end"."""

    kind: str
    text: str
    start: int
    end: int


class Substitutes:
    """The names and values beside the expressions of one request, and which of them were used.

    Args:
        names: ExpressionAttributeNames of the request; None if it has none.
        values: ExpressionAttributeValues, likewise.

    Raises:
        ValidationError: one of them is not valid.
    """

    def __init__(self, names: Any = None, values: Any = None) -> None:
        self._names = _substitutes("Names", "#", names)
        given = _substitutes("Values", ":", values)
        self._values = {key: _checked(key, value) for key, value in given.items()}
        for key, name in self._names.items():
            if not isinstance(name, str):
                raise SerializationError(f"{type(name).__name__} cannot be converted to String")
            utf8(name)
            if not name:
                raise ValidationError(
                    f"ExpressionAttributeNames contains invalid value: Invalid attribute name; "
                    f"the name is empty for key {key}"
                )
        self._used: set[str] = set()

    def name(self, key: str) -> str | None:
        """Return the name for `#key`; None if it is not there."""
        self._used.add(key)
        return self._names.get(key)

    def value(self, key: str) -> Attribute | None:
        """Return the value for `:key`; None if it is not there."""
        self._used.add(key)
        return self._values.get(key)

    def refuse_unused(self) -> None:
        """Raise ValidationError if an expression does not use one of them."""
        for kind, given in (("Names", self._names), ("Values", self._values)):
            if unused := [key for key in given if key not in self._used]:
                raise ValidationError(
                    f"Value provided in ExpressionAttribute{kind} unused in expressions: "
                    f"keys: {{{', '.join(unused)}}}"
                )


def _substitutes(kind: str, sign: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SerializationError("Unexpected field type")
    if not given:
        raise ValidationError(f"ExpressionAttribute{kind} must not be empty")
    for key in given:
        if not (key.startswith(sign) and _SUBSTITUTE.fullmatch(key[1:])):
            raise ValidationError(
                f'ExpressionAttribute{kind} contains invalid key: Syntax error; key: "{key}"'
            )
        if len(key) > 255:
            raise ValidationError(
                f"ExpressionAttribute{kind} contains invalid key: The key is too long; "
                "at most 255 bytes"
            )
    return given


def _checked(key: str, value: Any) -> Attribute:
    try:
        return checked(value)
    except ValidationError as error:
        raise ValidationError(
            f"ExpressionAttributeValues contains invalid value: {error} for key {key}"
        ) from error


class Scanner:
    """The tokens of one expression, and what expressions of all kinds have in common.

    Args:
        kind: such as "ConditionExpression", for the text of errors.
        expression: the text.
        substitutes: those of the request.

    Raises:
        ValidationError: the expression is empty, too long, or nested too deeply.
    """

    def __init__(self, kind: str, expression: Any, substitutes: Substitutes) -> None:
        if not isinstance(expression, str):
            raise SerializationError(f"{type(expression).__name__} cannot be converted to String")
        self.kind = kind
        self.substitutes = substitutes
        self._text = expression
        size = len(expression.encode("utf-8", "surrogatepass"))
        if size > MAX_EXPRESSION_BYTES:
            self.refuse(
                f"Expression size has exceeded the maximum allowed size; expression size: {size}"
            )
        self._tokens = [
            Token(str(one.lastgroup), one.group(), *one.span())
            for one in _TOKEN.finditer(expression)
            if one.lastgroup != "space"
        ]
        if not self._tokens:
            self.refuse("The expression can not be empty;")
        self._tokens.append(Token("end", "<EOF>", len(expression), len(expression)))
        self._at = 0
        self._operators = 0
        self._refuse_depth()

    def _refuse_depth(self) -> None:
        depth = 0
        for token in self._tokens:
            depth += (token.text == "(") - (token.text == ")")
            if depth > MAX_PARENTHESES:
                self.refuse(
                    f"The expression has more than {MAX_PARENTHESES} parentheses within each other;"
                )

    def refuse(self, text: str) -> NoReturn:
        """Raise ValidationError with a text about this expression."""
        raise ValidationError(f"Invalid {self.kind}: {text}")

    def refuse_token(self) -> NoReturn:
        """Raise ValidationError because of the current token, with its neighbours."""
        at, text = self._at, self.token.text
        start = self._tokens[max(at - 1, 0)].start
        end = self._tokens[min(at + 1, len(self._tokens) - 1)].end
        self.refuse(f'Syntax error; token: "{text}", near: "{self._text[start:end]}"')

    @property
    def token(self) -> Token:
        """The current token."""
        return self._tokens[self._at]

    @property
    def position(self) -> int:
        """The number of tokens before the current one."""
        return self._at

    @property
    def next_text(self) -> str:
        """The text of the token behind the current one; of the end, if it is the last."""
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)].text

    def take(self, *texts: str) -> str | None:
        """Go on behind the current token if it has one of these texts, and return that."""
        token = self.token
        if token.kind == "end" or token.text not in texts:
            return None
        self._at += 1
        return token.text

    def expect(self, text: str) -> None:
        """Go on behind a token that must be there."""
        if self.take(text) is None:
            self.refuse_token()

    def keyword(self, *words: str) -> str | None:
        """Go on behind one of these words in any case, and return it in capitals."""
        token = self.token
        if token.kind != "word" or token.text.upper() not in words:
            return None
        self._at += 1
        return token.text.upper()

    def end(self) -> None:
        """Raise ValidationError if there is more."""
        if self.token.kind != "end":
            self.refuse_token()

    def count_operator(self) -> None:
        """Note an operator or function; raise ValidationError beyond 300."""
        self._operators += 1
        if self._operators > MAX_OPERATORS:
            self.refuse(
                f"The expression contains too many operators; operator count: {self._operators}"
            )

    def value(self) -> Attribute:
        """Return the value that the current token `:x` stands for."""
        if self.token.kind != "value":
            self.refuse_token()
        key = self._advance().text
        value = self.substitutes.value(key)
        if value is None:
            self.refuse(
                "An expression attribute value used in expression is not defined; "
                f"attribute value: {key}"
            )
        return value

    def path(self, keywords: frozenset[str] = frozenset()) -> Path:
        """Return the document path that begins here.

        Args:
            keywords: words of the grammar, which are no names.
        """
        pieces: list[str | int] = [self._name(keywords)]
        while sign := self.take(".", "["):
            if sign == ".":
                pieces.append(self._name(keywords))
                continue
            if self.token.kind != "index":
                self.refuse_token()
            pieces.append(int(self._advance().text))
            self.expect("]")
        return tuple(pieces)

    def _name(self, keywords: frozenset[str]) -> str:
        token = self.token
        if token.kind == "name":
            name = self.substitutes.name(self._advance().text)
            if name is None:
                self.refuse(
                    "An expression attribute name used in the document path is not defined; "
                    f"attribute name: {token.text}"
                )
            return name
        if token.kind != "word" or token.text.upper() in keywords:
            self.refuse_token()
        if token.text.upper() in RESERVED:
            self.refuse(f"Attribute name is a reserved keyword; reserved keyword: {token.text}")
        return self._advance().text

    def _advance(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]


def shown(path: Path) -> str:
    """Return a path as errors show it."""
    return f"[{', '.join(f'[{one}]' if isinstance(one, int) else one for one in path)}]"

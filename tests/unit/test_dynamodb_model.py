"""Conditions and updates, compared with moto as a model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from durableq.serve.dynamodb.comparing import are_equal
from durableq.serve.dynamodb.conditions import holds, parse_condition
from durableq.serve.dynamodb.scanning import Substitutes
from durableq.serve.dynamodb.updates import parse_update, updated
from durableq.serve.dynamodb.values import ValidationError, checked_attributes
from tests.unit.moto_model import (
    DIFFERENCES,
    REFUSED,
    UPDATE_DIFFERENCES,
    differences_in,
    moto_holds,
    moto_updated,
    update_differences,
)

NUMBERS = st.sampled_from(["0", "1", "2", "-1", "1.5", "10", "1.50", "3E1"])
TEXTS = st.sampled_from(["", "a", "b", "ab", "é", "1", "S", "N"])
BINARY = st.sampled_from(["", "YQ==", "YWI=", "/w=="])
SCALARS = st.one_of(
    *(st.fixed_dictionaries({kind: content}) for kind, content in
      {"N": NUMBERS, "S": TEXTS, "B": BINARY, "BOOL": st.booleans(), "NULL": st.just(True)}.items())
)  # fmt: skip
ORDERED = st.one_of(
    st.fixed_dictionaries({"N": NUMBERS}),
    st.fixed_dictionaries({"S": TEXTS}),
)
SETS = st.one_of(
    st.fixed_dictionaries({"SS": st.lists(TEXTS, min_size=1, max_size=3, unique=True)}),
    st.fixed_dictionaries(
        {"NS": st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, max_size=3, unique=True)}
    ),
)
VALUES = st.recursive(
    SCALARS | SETS,
    lambda inner: (
        st.fixed_dictionaries({"L": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"M": st.dictionaries(st.sampled_from("xy"), inner, max_size=2)})
    ),
    max_leaves=4,
)
ATTRIBUTES = st.fixed_dictionaries({"a": VALUES, "b": VALUES}, optional={"c": VALUES, "d": VALUES})
PATHS = st.sampled_from(["a", "b", "c", "#d", "a.x", "b[0]", "c[1]", "a.#x", "b[0].y"])
NAMES = {"#d": "d", "#x": "x"}


class Literals:
    """The values of an expression that is being drawn."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: Any) -> str:
        """Return the name of one more."""
        key = f":v{len(self.values)}"
        self.values[key] = value
        return key


@st.composite
def leaves(draw: st.DrawFn, literals: Literals) -> str:
    """Return a condition without AND, OR and NOT."""
    path, value = draw(PATHS), literals.add
    kind = draw(st.sampled_from(["compare", "between", "in", "exists", "type", "text", "size"]))
    if kind == "compare":
        sign = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
        return f"{path} {sign} {value(draw(VALUES if sign in '=<>' else ORDERED))}"
    if kind == "between":
        low, high = sorted(draw(st.lists(NUMBERS, min_size=2, max_size=2)), key=float)
        return f"{path} BETWEEN {value({'N': low})} and {value({'N': high})}"
    if kind == "in":
        listed = ", ".join(value(one) for one in draw(st.lists(VALUES, min_size=1, max_size=3)))
        return f"{path} IN ({listed})"
    if kind == "exists":
        return draw(st.sampled_from(["attribute_exists", "attribute_not_exists"])) + f"({path})"
    if kind == "type":
        types = st.sampled_from(["S", "N", "B", "L", "M", "SS", "NS", "BOOL", "NULL"])
        return f"attribute_type({path}, {value({'S': draw(types)})})"
    if kind == "size":
        return f"size({path}) {draw(st.sampled_from('=<>'))} {value({'N': draw(NUMBERS)})}"
    function = draw(st.sampled_from(["begins_with", "contains"]))
    part = SCALARS if function == "contains" else st.fixed_dictionaries({"S": TEXTS})
    return f"{function}({path}, {value(draw(part))})"


@st.composite
def conditions(draw: st.DrawFn, literals: Literals, depth: int = 2) -> str:
    """Return a condition."""
    kind = draw(st.sampled_from(["leaf", "AND", "OR", "NOT", "("]))
    if depth == 0 or kind == "leaf":
        return draw(leaves(literals))
    inner = draw(conditions(literals, depth - 1))
    if kind == "(":
        return inner if "(" in inner else f"({inner})"
    if kind == "NOT":
        return f"NOT {inner if inner.startswith('(') else f'({inner})'}"
    return f"{inner} {kind} {draw(conditions(literals, depth - 1))}"


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return a condition with its values."""
    literals = Literals()
    return draw(conditions(literals)), literals.values


def names_in(expression: str) -> dict[str, str]:
    return {key: name for key, name in NAMES.items() if key in expression}


@given(requests(), ATTRIBUTES)
def test_conditions_are_decided_as_moto_decides_them(
    request: tuple[str, dict[str, Any]], attributes: dict[str, Any]
) -> None:
    expression, values = request
    names = names_in(expression)
    attributes = checked_attributes(attributes)
    try:
        substitutes = Substitutes(names or None, values or None)
        condition = parse_condition(expression, substitutes)
    except ValidationError as error:
        event(f"refused: {str(error)[:70]}")
        assume(False)
    substitutes.refuse_unused()
    if differs := differences_in(condition, attributes):
        for name in differs:
            event(name)
        assert holds(condition, attributes) in {True, False}
        return
    event("compared")
    given_values = checked_attributes(values)
    assert holds(condition, attributes) == moto_holds(expression, names, given_values, attributes)


@st.composite
def set_operands(draw: st.DrawFn, literals: Literals) -> str:
    """Return the right side of an action of SET."""
    path, value = draw(PATHS), literals.add
    kind = draw(st.sampled_from(["value", "path", "sum", "default", "append"]))
    if kind == "value":
        return value(draw(VALUES))
    if kind == "sum":
        return f"{path} {draw(st.sampled_from('+-'))} {value({'N': draw(NUMBERS)})}"
    if kind == "default":
        return f"if_not_exists({path}, {value(draw(VALUES))})"
    if kind == "append":
        return f"list_append({path}, {value({'L': draw(st.lists(SCALARS, max_size=2))})})"
    return path


@st.composite
def update_requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return an update with its values."""
    literals = Literals()
    sections: dict[str, list[str]] = {}
    for path in draw(st.lists(PATHS, min_size=1, max_size=3, unique=True)):
        section = draw(st.sampled_from(["SET", "SET", "REMOVE", "ADD", "DELETE"]))
        action = path
        if section == "SET":
            action = f"{path} = {draw(set_operands(literals))}"
        elif section != "REMOVE":
            adds = st.fixed_dictionaries({"N": NUMBERS}) | SETS
            action = f"{path} {literals.add(draw(SETS if section == 'DELETE' else adds))}"
        sections.setdefault(section, []).append(action)
    text = " ".join(f"{section} {', '.join(actions)}" for section, actions in sections.items())
    return text, literals.values


@given(update_requests(), ATTRIBUTES)
def test_updates_have_the_effect_that_they_have_in_moto(
    request: tuple[str, dict[str, Any]], attributes: dict[str, Any]
) -> None:
    expression, values = request
    names = names_in(expression)
    attributes = checked_attributes(attributes)
    before = copy.deepcopy(attributes)
    try:
        steps = parse_update(expression, Substitutes(names or None, values or None))
    except ValidationError as error:
        event(f"refused: {str(error)[:70]}")
        assume(False)
    try:
        ours: Any = updated(steps, attributes)
    except ValidationError:
        ours = REFUSED
    assert attributes == before, "the item that was read is not changed"
    if differs := update_differences(steps, attributes):
        for name in differs:
            event(name)
        return
    event("compared" if ours is not REFUSED else "compared: both refuse")
    theirs = moto_updated(expression, names, checked_attributes(values), before)
    if ours is REFUSED or theirs is REFUSED:
        assert ours == theirs
    else:
        assert are_equal({"M": ours}, {"M": checked_attributes(theirs)})


#: A condition and an item for each difference, where moto decides wrongly or raises an error.
EXAMPLES: dict[str, tuple[str, Any, Any, bool]] = {
    "missing equals null": ("a = b", {}, {"c": {"S": ""}}, False),
    "types are mixed": ("a = :v", {":v": {"S": "YQ=="}}, {"a": {"B": "YQ=="}}, False),
    "types without an order": ("a < :v", {":v": {"N": "2"}}, {"a": {"BOOL": True}}, False),
    "binary": ("begins_with(a, :v)", {":v": {"B": "YQ=="}}, {"a": {"B": "YWI="}}, True),
    "members of any type": ("contains(a, :v)", {":v": {"S": ""}}, {"a": {"L": [{"B": ""}]}}, False),
    "contains null": ("contains(a, b)", {}, {"a": {"L": [{"NULL": True}]}}, False),
    "size": ("size(a) < :v", {":v": {"N": "3"}}, {}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_from_moto_is_one(name: str) -> None:
    expression, values, attributes, expected = EXAMPLES[name]
    condition = parse_condition(expression, Substitutes(None, values or None))
    assert name in differences_in(condition, attributes)
    assert holds(condition, attributes) is expected
    try:
        decided = moto_holds(expression, {}, values, attributes)
    except (TypeError, ValueError):
        return
    assert decided is not expected, f"moto is as documented now: {DIFFERENCES[name][0]}"


#: An update and an item for each difference of updates, and the item after it.
UPDATE_EXAMPLES: dict[str, tuple[str, Any, Any, Any]] = {
    "path through another type": ("SET a.x = :v", {":v": {"N": "0"}}, {"a": {"L": []}}, REFUSED),
    "copies are shared": (
        "SET b = a, a.x = :v",
        {":v": {"N": "0"}},
        {"a": {"M": {}}},
        {"a": {"M": {"x": {"N": "0"}}}, "b": {"M": {}}},
    ),
}


@pytest.mark.parametrize("name", UPDATE_DIFFERENCES)
def test_each_difference_of_an_update_from_moto_is_one(name: str) -> None:
    expression, values, attributes, expected = UPDATE_EXAMPLES[name]
    steps = parse_update(expression, Substitutes(None, values))
    assert name in update_differences(steps, attributes)
    if expected is REFUSED:
        with pytest.raises(ValidationError, match="path"):
            updated(steps, attributes)
    else:
        assert updated(steps, attributes) == expected
    theirs = moto_updated(expression, {}, values, copy.deepcopy(attributes))
    assert theirs != expected, f"moto is as documented now: {UPDATE_DIFFERENCES[name][0]}"

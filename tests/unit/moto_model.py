"""Conditions and updates of DynamoDB as moto decides them: the model of ours, and its limits.

DIFFERENCES names each case in which moto is not DynamoDB as documented. An example for each is in
test_dynamodb_model.py, so a moto that mends one of them shows itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import moto.dynamodb.comparisons as moto_comparisons
from moto.dynamodb.exceptions import DynamodbException
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import Table
from moto.dynamodb.parsing.executors import UpdateExpressionExecutor
from moto.dynamodb.parsing.expressions import UpdateExpressionParser  # type: ignore[attr-defined]
from moto.dynamodb.parsing.validators import UpdateExpressionValidator

from durableq.serve.dynamodb.comparing import type_of
from durableq.serve.dynamodb.operands import Call, Literal, Operand
from durableq.serve.dynamodb.paths import value_at
from durableq.serve.dynamodb.scanning import Path
from durableq.serve.dynamodb.updates import Step
from durableq.serve.dynamodb.values import Attribute, Attributes

#: moto refuses the request.
REFUSED: Final = "refused"


def moto_holds(expression: str, names: Any, values: Any, attributes: Attributes) -> bool | str:
    """Return moto's decision about a condition."""
    item = Item(DynamoType({"S": "k"}), None, attrs=dict(attributes))
    parser = moto_comparisons.create_condition_expression_parser(expression, names, values)
    return bool(parser.parse().expr(item))


def moto_updated(expression: str, names: Any, values: Any, attributes: Attributes) -> Any:
    """Return moto's item after an update, or REFUSED."""
    table = Table(  # type: ignore[abstract]
        "t",
        account_id="000000000000",
        region="us-east-1",
        schema=[{"AttributeName": "id", "KeyType": "HASH"}],
        attr=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    item = Item(DynamoType({"S": "k"}), None, attrs=dict(attributes))
    try:
        tree = UpdateExpressionValidator(
            UpdateExpressionParser.make(expression),
            expression_attribute_names=names,
            expression_attribute_values=values,
            item=item,
            table=table,
        ).validate()
        tree.normalize()
        UpdateExpressionExecutor(tree, item, names).execute()
    except DynamodbException:
        return REFUSED
    return item.to_json()["Attributes"]


#: A part of a condition without AND, OR and NOT, and the item: whether a difference is in it.
_Found = Callable[[str, list[Attribute | None]], bool]


def _types(values: list[Attribute | None]) -> set[str]:
    return {type_of(value) for value in values if value is not None}


#: Types whose contents Python takes for equal; so are those in lists and maps.
_ALIKE: Final = ({"S", "B"}, {"N", "BOOL"}, {"SS", "BS"}, {"L"}, {"M"})
_ORDERS: Final = {"<", "<=", ">", ">=", "between"}


def _are_alike(values: list[Attribute | None]) -> bool:
    types = _types(values)
    return any(len(types & alike) > 1 or types & alike & {"L", "M"} for alike in _ALIKE)


def _nulls(values: list[Attribute | None]) -> int:
    return sum(value is None or "NULL" in value for value in values)


#: By name: the reason, and the test of a leaf of a condition.
DIFFERENCES: Final[dict[str, tuple[str, _Found]]] = {
    "missing equals null": (
        "moto has None for a NULL and for an attribute that is not there, so `=` and IN are true",
        lambda name, values: name in {"=", "<>", "in"} and _nulls(values) > 1,
    ),
    "types are mixed": (
        "moto compares contents, not types: B is equal to S, and a number to a boolean",
        lambda name, values: name in {"=", "<>", "in"} and _are_alike(values),
    ),
    "types without an order": (
        "moto orders sets and booleans of an item, and base64 text instead of bytes, and fails "
        "for two types, where DynamoDB says that the condition is not true",
        lambda name, values: name in _ORDERS and _types(values) not in ({"S"}, {"N"}),
    ),
    "binary": (
        "moto does not know begins_with of B, and looks for parts in base64 text",
        lambda name, values: name in {"begins_with", "contains"} and "B" in _types(values),
    ),
    "contains null": (
        "moto has None for a NULL and for an attribute that is not there, also in a list",
        lambda name, values: name == "contains" and bool(_nulls(values)),
    ),
    "members of any type": (
        "moto looks for the content of a member, not for its type",
        lambda name, values: name == "contains" and "L" in _types(values[:1]),
    ),
    "size": (
        "moto raises an error for size() of an attribute that is not there or has none, and has "
        "the length of base64 text for B",
        lambda name, values: (
            name == "size" and (None in values or bool(_types(values) & {"B", "N", "BOOL", "NULL"}))
        ),
    ),
}


def differences_in(condition: Operand, attributes: Attributes) -> set[str]:
    """Return the names of the differences that a condition on an item meets."""
    if not isinstance(condition, Call):
        return set()
    inner = {name for operand in condition.operands for name in differences_in(operand, attributes)}
    if condition.name in {"and", "or", "not"}:
        return inner
    values = [_value(operand, attributes) for operand in condition.operands]
    return inner | {name for name, (_, test) in DIFFERENCES.items() if test(condition.name, values)}


def _value(operand: Operand, attributes: Attributes) -> Attribute | None:
    if isinstance(operand, Literal):
        return operand.value
    if isinstance(operand, Call):
        return {"N": "1"}
    return value_at(operand, attributes)


def _leads_through_another_type(path: Path, attributes: Attributes) -> bool:
    """Return whether a path has a name in a list, an index in a map, or either in a scalar."""
    for end in range(1, len(path)):
        inside = value_at(path[:end], attributes)
        if inside is not None and type_of(inside) != ("M" if isinstance(path[end], str) else "L"):
            return True
    return False


def _paths_of(operand: Operand | None) -> list[Path]:
    if isinstance(operand, Call):
        return [path for inner in operand.operands for path in _paths_of(inner)]
    return [operand] if isinstance(operand, tuple) else []


def _begins_with(path: Path, start: Path) -> bool:
    return path[: len(start)] == start


def _reads_and_writes(steps: list[Step]) -> bool:
    """Return whether a list or map that is copied is changed, or copied into itself."""
    read = [path for step in steps for path in _paths_of(step.operand)]
    written = [step.path for step in steps]
    return any(_begins_with(one, other) for one in written for other in read)


#: By name: the reason, and the test of the changes.
UPDATE_DIFFERENCES: Final[dict[str, tuple[str, Callable[[list[Step], Attributes], bool]]]] = {
    "path through another type": (
        "moto ignores a SET of a.x where a is a list or a text, or fails; DynamoDB refuses it",
        lambda steps, attributes: any(
            _leads_through_another_type(path, attributes)
            for step in steps
            for path in [step.path, *_paths_of(step.operand)]
        ),
    ),
    "copies are shared": (
        "moto sets `b = a` to the same object, which `a.x = :v` then changes in both",
        lambda steps, attributes: _reads_and_writes(steps),
    ),
}


def update_differences(steps: list[Step], attributes: Attributes) -> set[str]:
    """Return the names of the differences that an update of an item meets."""
    return {name for name, (_, test) in UPDATE_DIFFERENCES.items() if test(steps, attributes)}

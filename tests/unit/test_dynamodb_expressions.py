"""Expressions of DynamoDB: their errors in its words, and their meaning."""

from __future__ import annotations

from typing import Any

import pytest

from durableq.serve.dynamodb.comparing import bytes_of_attributes
from durableq.serve.dynamodb.conditions import holds, parse_condition
from durableq.serve.dynamodb.paths import parse_projection, projected
from durableq.serve.dynamodb.scanning import Substitutes
from durableq.serve.dynamodb.updates import parse_update, updated
from durableq.serve.dynamodb.values import SerializationError, ValidationError, checked

N = {"N": "1"}
S = {"S": "s"}


def condition_is_refused(text: str, values: Any = None, names: Any = None) -> str:
    with pytest.raises(ValidationError) as refused:
        parse_condition(text, Substitutes(names, values))
    return str(refused.value).removeprefix("Invalid ConditionExpression: ")


def update_is_refused(text: str, values: Any = None, attributes: Any = None) -> str:
    with pytest.raises(ValidationError) as refused:
        updated(parse_update(text, Substitutes(None, values)), attributes or {})
    return str(refused.value).removeprefix("Invalid UpdateExpression: ")


def is_true(text: str, attributes: Any, values: Any = None, names: Any = None) -> bool:
    substitutes = Substitutes(names, values)
    condition = parse_condition(text, substitutes)
    substitutes.refuse_unused()
    return holds(condition, attributes)


OPERAND = "Incorrect operand type for operator or function; operator or function: "
BOUNDS = "lower bound operand: AttributeValue: {N:2}, upper bound operand: AttributeValue: "


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "The expression can not be empty;"),
        (" \n", "The expression can not be empty;"),
        ("a", 'Syntax error; token: "<EOF>", near: "a"'),
        ("a = ", 'Syntax error; token: "<EOF>", near: "= "'),
        ("a b c", 'Syntax error; token: "b", near: "a b c"'),
        ("a = :n c = :n", 'Syntax error; token: "c", near: ":n c ="'),
        ("!!", 'Syntax error; token: "!", near: "!!"'),
        ("a[x] = :n", 'Syntax error; token: "x", near: "[x]"'),
        ("a.0 = :n", 'Syntax error; token: "0", near: ".0 ="'),
        ("(a = :n", 'Syntax error; token: "<EOF>", near: ":n"'),
        ("a = :n AND b", 'Syntax error; token: "<EOF>", near: "b"'),
        ("a AND b = :n", 'Syntax error; token: "b", near: "AND b ="'),
        ("and = :n", 'Syntax error; token: "and", near: "and ="'),
        ("((a = :n))", "The expression has redundant parentheses;"),
        ("((a)) = :n", "The expression has redundant parentheses;"),
        ("name = :n", "Attribute name is a reserved keyword; reserved keyword: name"),
        ("a.Status = :n", "Attribute name is a reserved keyword; reserved keyword: Status"),
        ("exists(a)", "Invalid function name; function: exists"),
        (
            "if_not_exists(a, :n)",
            "The function is not allowed in a condition expression; function: if_not_exists",
        ),
        (
            "size(a)",
            "The function is not allowed to be used this way in an expression; function: size",
        ),
        (
            "attribute_exists(a) = :n",
            "The function is not allowed to be used this way in an expression; "
            "function: attribute_exists",
        ),
        ("attribute_exists(:n)", "Operator or function requires a document path; "
         "operator or function: attribute_exists"),
        (
            "begins_with(a)",
            "Incorrect number of operands for operator or function; "
            "operator or function: begins_with, number of operands: 1",
        ),
        ("begins_with(a, :n)", OPERAND + "begins_with, operand type: N"),
        ("size(:n) = :n", OPERAND + "size, operand type: N"),
        ("a < :b", OPERAND + "<, operand type: BOOL"),
        ("a BETWEEN :b AND :b", OPERAND + "BETWEEN, operand type: BOOL"),
        ("attribute_type(a, b)", OPERAND + "attribute_type, operand type: "
         "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}"),
        ("attribute_type(a, :s)", "Invalid attribute type name found; type: s, "
         "valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}"),
        ("a = a", "The first operand must be distinct from the remaining operands for this "
         "operator or function; operator: =, first operand: [a]"),
        ("contains(a.b[1], a.b[1])", "The first operand must be distinct from the remaining "
         "operands for this operator or function; operator: contains, first operand: [a, b, [1]]"),
        ("a BETWEEN :two AND :n", "The BETWEEN operator requires upper bound to be greater than "
         "or equal to lower bound; " + BOUNDS + "{N:1}"),
        ("a BETWEEN :two AND :s", "The BETWEEN operator requires same data type for lower and "
         "upper bounds; " + BOUNDS + "{S:s}"),
        ("a = :x", "An expression attribute value used in expression is not defined; "
         "attribute value: :x"),
        ("#x = :n", "An expression attribute name used in the document path is not defined; "
         "attribute name: #x"),
        ("a = :n" + " " * 4096, "Expression size has exceeded the maximum allowed size; "
         "expression size: 4102"),
        ("a IN (" + ",".join([":n"] * 101) + ")", "The IN operator is provided with too many "
         "operands; number of operands: 101"),
        (" AND ".join(["a=:n"] * 151), "The expression contains too many operators; "
         "operator count: 301"),
        ("(" * 1000 + "a", "The expression has more than 64 parentheses within each other;"),
    ],
)  # fmt: skip
def test_a_condition_that_is_not_valid_is_refused(text: str, error: str) -> None:
    values = {":n": N, ":two": {"N": "2"}, ":s": S, ":b": {"BOOL": True}}
    assert condition_is_refused(text, values) == error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "The expression can not be empty;"),
        ("INVALID SYNTAX HERE", 'Syntax error; token: "INVALID", near: "INVALID SYNTAX"'),
        ("SET a", 'Syntax error; token: "<EOF>", near: "a"'),
        ("SET a = :n,", 'Syntax error; token: "<EOF>", near: ","'),
        ("SET a = b + c + d", 'Syntax error; token: "+", near: "c + d"'),
        ("SET a = (b + c) + d", 'Syntax error; token: "+", near: ") + d"'),
        ("SET a = :n SET b = :n",
         'The "SET" section can only be used once in an update expression;'),
        ("SET a = :n, a = :n", "Two document paths overlap with each other; must remove or rewrite "
         "one of these paths; path one: [a], path two: [a]"),
        ("SET a.b = :n REMOVE a[0]", "Two document paths conflict with each other; must remove or "
         "rewrite one of these paths; path one: [a, b], path two: [a, [0]]"),
        ("SET size = :n", "Attribute name is a reserved keyword; reserved keyword: size"),
        ("SET a = size(b)", "The function is not allowed in an update expression; function: size"),
        ("SET a = f(b)", "Invalid function name; function: f"),
        ("SET a = if_not_exists(b)", "Incorrect number of operands for operator or function; "
         "operator or function: if_not_exists, number of operands: 1"),
        ("SET a = if_not_exists(:n, :n)", "Operator or function requires a document path; "
         "operator or function: if_not_exists"),
        ("SET a = list_append(b, :n)", OPERAND + "list_append, operand type: N"),
        ("SET a = b + :s", OPERAND + "+, operand type: S"),
        ("ADD a :s", "Incorrect operand type for operator or function; operator: ADD, "
         "operand type: STRING, typeSet: ALLOWED_FOR_ADD_OPERAND"),
        ("DELETE a :n", "Incorrect operand type for operator or function; operator: DELETE, "
         "operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND"),
        ("SET a = :x", "An expression attribute value used in expression is not defined; "
         "attribute value: :x"),
        ("SET a = gone",
         "The provided expression refers to an attribute that does not exist in the item"),
        ("SET a = t + :n", "An operand in the update expression has an incorrect data type"),
        ("ADD t :n", "An operand in the update expression has an incorrect data type"),
        ("SET gone.b = :n",
         "The document path provided in the update expression is invalid for update"),
        ("REMOVE gone.b",
         "The document path provided in the update expression is invalid for update"),
        ("DELETE gone.b :set",
         "The document path provided in the update expression is invalid for update"),
        ("SET t.b = :n",
         "The document path provided in the update expression is invalid for update"),
        ("SET a = big + :n",
         "Attempting to store more than 38 significant digits in a Number"),
    ],
)  # fmt: skip
def test_an_update_that_is_not_valid_is_refused(text: str, error: str) -> None:
    values = {":n": N, ":s": S, ":set": {"SS": ["a"]}}
    attributes = {"t": S, "big": {"N": "1" + "0" * 38}}
    assert update_is_refused(text, values, attributes) == error


def test_names_and_values_are_all_used_and_well_formed() -> None:
    with pytest.raises(ValidationError, match=r"^Value provided in ExpressionAttributeNames unused "
                       r"in expressions: keys: \{#x, #y\}$"):  # fmt: skip
        is_true("a = :v", {}, {":v": N}, {"#x": "x", "#y": "y"})
    with pytest.raises(ValidationError, match=r"^Value provided in ExpressionAttributeValues unused"
                       r" in expressions: keys: \{:w\}$"):  # fmt: skip
        is_true("a = :v", {}, {":v": N, ":w": N})
    for names, values, error in (
        ({}, None, "ExpressionAttributeNames must not be empty"),
        (None, {}, "ExpressionAttributeValues must not be empty"),
        ({"x": "x"}, None, 'ExpressionAttributeNames contains invalid key: Syntax error; key: "x"'),
        (None, {"v": N}, 'ExpressionAttributeValues contains invalid key: Syntax error; key: "v"'),
        (
            None,
            {":v": {"N": "x"}},
            "ExpressionAttributeValues contains invalid value: The parameter cannot be converted "
            "to a numeric value: x for key :v",
        ),
    ):
        with pytest.raises(ValidationError) as refused:
            Substitutes(names, values)
        assert str(refused.value) == error


def test_sums_and_lists_have_the_values_from_before_the_update() -> None:
    text = "SET a = b, b = a, c = list_append(c, :l), n = n - :n REMOVE d[0], d[2] ADD e :set"
    values = {":l": {"L": [S]}, ":n": {"N": "0.1"}, ":set": {"SS": ["y", "x"]}}
    attributes: dict[str, Any] = {
        "a": {"N": "1"},
        "b": {"N": "2"},
        "c": {"L": [N]},
        "d": {"L": [{"S": "0"}, {"S": "1"}, {"S": "2"}, {"S": "3"}]},
        "e": {"SS": ["x"]},
        "n": {"N": "0.3"},
    }
    assert updated(parse_update(text, Substitutes(None, values)), attributes) == {
        "a": {"N": "2"},
        "b": {"N": "1"},
        "c": {"L": [N, S]},
        "d": {"L": [{"S": "1"}, {"S": "3"}]},
        "e": {"SS": ["x", "y"]},
        "n": {"N": "0.2"},
    }


def test_members_of_sets_are_deleted_and_the_set_with_the_last() -> None:
    text = "DELETE a :one, b :one, c :one"
    values = {":one": {"NS": ["1.0", "3"]}}
    attributes = {"a": {"NS": ["1", "2"]}, "b": {"NS": ["1"]}}
    changed = updated(parse_update(text, Substitutes(None, values)), attributes)
    assert changed == {"a": {"NS": ["2"]}}


def test_an_index_beyond_the_end_of_a_list_appends_in_order() -> None:
    values = {":x": {"S": "x"}, ":y": {"S": "y"}}
    steps = parse_update("SET a[9] = :y, a[5] = :x", Substitutes(None, values))
    assert updated(steps, {"a": {"L": []}}) == {"a": {"L": [{"S": "x"}, {"S": "y"}]}}


def test_conditions_may_nest_as_deep_as_a_text_allows() -> None:
    text = "NOT (" * 50 + "attribute_exists(a)" + ")" * 50
    assert is_true(text, {"a": N})
    assert is_true("NOT NOT " * 100 + "attribute_exists(a)", {"a": N})


def test_an_attribute_that_is_not_there_differs_from_each_value() -> None:
    assert is_true("a <> :n", {}, {":n": N})
    assert not is_true("a = b", {})
    assert not is_true("a < :n OR a >= :n OR a BETWEEN :n AND :n", {}, {":n": N})
    assert is_true("NOT a = :n", {"a": {"S": "1"}}, {":n": N})


def test_numbers_are_compared_exactly() -> None:
    big = "12345678901234567890123456789012345678"
    assert is_true("a < :v", {"a": {"N": big[:-1] + "7"}}, {":v": {"N": big}})
    assert is_true("a = :v", {"a": checked({"N": "1E2"})}, {":v": {"N": "100.00"}})
    assert is_true("a IN (:v)", {"a": {"NS": ["1", "2"]}}, {":v": {"NS": ["2.0", "1"]}})


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("00042", "42"),
        ("1.5E2", "150"),
        ("-0", "0"),
        ("3.1400", "3.14"),
        ("-1E-130", "-0." + "0" * 129 + "1"),
        ("9.9999999999999999999999999999999999999E+125", "9" * 38 + "0" * 88),
        (".5", "0.5"),
        ("+7.", "7"),
    ],
)
def test_numbers_have_one_form(given: str, stored: str) -> None:
    assert checked({"N": given}) == {"N": stored}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"N": "1E126"}, "Number overflow. Attempting to store a number with magnitude larger than "
         "supported range"),
        ({"N": "1E-131"}, "Number underflow. Attempting to store a number with magnitude smaller "
         "than supported range"),
        ({"N": "1" * 39}, "Attempting to store more than 38 significant digits in a Number"),
        ({"N": "NaN"}, "The parameter cannot be converted to a numeric value: NaN"),
        ({"N": "1_0"}, "The parameter cannot be converted to a numeric value: 1_0"),
        ({"N": "1e99999999999999999999"},
         "The parameter cannot be converted to a numeric value: 1e99999999999999999999"),
        ({"N": ""}, "The parameter cannot be converted to a numeric value"),
        ({}, "Supplied AttributeValue is empty, must contain exactly one of the supported "
         "datatypes"),
        ({"S": "", "N": "1"}, "Supplied AttributeValue has more than one datatypes set, must "
         "contain exactly one of the supported datatypes"),
        ({"SS": []},
         "One or more parameter values were invalid: An string set  may not be empty"),
        ({"NS": []},
         "One or more parameter values were invalid: An number set  may not be empty"),
        ({"BS": []}, "One or more parameter values were invalid: Binary sets should not be empty"),
        ({"SS": ["a", "a"]}, "One or more parameter values were invalid: Input collection [a, a] "
         "contains duplicates."),
        ({"NS": ["1", "1.0"]}, "Input collection contains duplicates"),
        ({"NULL": False}, "One or more parameter values were invalid: Null attribute value types "
         "must have the value of true"),
        ({"X": "1"}, "'X' is no type of an attribute value; the types are "
         "S, N, B, SS, NS, BS, M, L, NULL, BOOL"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_valid_is_refused(value: Any, error: str) -> None:
    with pytest.raises(ValidationError) as refused:
        checked({"L": [value]})
    assert str(refused.value) == error


@pytest.mark.parametrize(
    "value", [1, None, [], {"S": 1}, {"B": "?"}, {"B": 1}, {"L": {}}, {"M": []}, {"BOOL": 1},
              {"S": "\ud800"}, {"SS": "a"}, {"NS": [1]}]
)  # fmt: skip
def test_a_value_of_another_json_type_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError):
        checked({"M": {"a": value}})


def test_lists_and_maps_have_at_most_32_levels() -> None:
    value: Any = S
    for _ in range(32):
        value = {"L": [value]}
    assert checked(value) == value
    with pytest.raises(ValidationError, match=r"^Nesting Levels have exceeded supported limits$"):
        checked({"M": {"a": value}})
    steps = parse_update("SET a.b = :v", Substitutes(None, {":v": value}))
    with pytest.raises(ValidationError, match=r"^Nesting Levels have exceeded supported limits$"):
        updated(steps, {"a": {"M": {}}})


def test_the_size_of_an_item_has_names_and_all_that_is_inside() -> None:
    assert bytes_of_attributes({"id": {"S": "é"}}) == 2 + 2
    assert bytes_of_attributes({"a": {"N": "-12.50"}, "b": {"NULL": True}}) == 1 + 4 + 1 + 1
    assert bytes_of_attributes({"a": {"B": "YWI="}, "c": {"SS": ["x", "yz"]}}) == 1 + 2 + 1 + 3
    assert bytes_of_attributes({"m": {"M": {"k": {"L": [{"S": "v"}]}}}}) == 1 + 3 + 1 + 1 + 3 + 2


def test_a_projection_keeps_the_shape_of_the_item() -> None:
    attributes: Any = {
        "a": {"M": {"x": N, "y": S}},
        "l": {"L": [N, S, {"M": {"k": S, "j": N}}]},
        "z": S,
    }
    paths = parse_projection("a.x, l[2].k, #l[0], gone.b", Substitutes({"#l": "l"}))
    assert projected(paths, attributes) == {
        "a": {"M": {"x": N}},
        "l": {"L": [N, {"M": {"k": S}}]},
    }
    for text, error in (
        ("!!", 'Syntax error; token: "!", near: "!!"'),
        ("a, a.x", "Two document paths overlap with each other; must remove or rewrite one of "
         "these paths; path one: [a], path two: [a, x]"),
        ("", "The expression can not be empty;"),
    ):  # fmt: skip
        with pytest.raises(ValidationError) as refused:
            parse_projection(text, Substitutes())
        assert str(refused.value) == f"Invalid ProjectionExpression: {error}"


PYTHON = (
    "attribute_not_exists(#id) OR #expiry < :now OR (#status = :inprogress AND "
    "attribute_exists(#in_progress_expiry) AND #in_progress_expiry < :now_in_millis)"
)
#: Powertools for Java has the same terms in another order.
JAVA = (
    "#expiry < :now OR attribute_not_exists(#id) OR (attribute_exists(#in_progress_expiry) AND "
    "#in_progress_expiry < :now_in_millis AND #status = :inprogress)"
)


@pytest.mark.parametrize("text", [PYTHON, JAVA])
@pytest.mark.parametrize(
    "now", ["1700000000", "1700000000.123"]
)  # that of TypeScript is a fraction
def test_the_conditions_of_powertools_decide_who_may_begin(text: str, now: str) -> None:
    names = {"#id": "id", "#expiry": "expiration", "#status": "status",
             "#in_progress_expiry": "in_progress_expiration"}  # fmt: skip
    values = {":now": {"N": now}, ":inprogress": {"S": "INPROGRESS"},
              ":now_in_millis": {"N": "1700000000123"}}  # fmt: skip

    def may_begin(**attributes: Any) -> bool:
        record = {"id": S, **attributes} if attributes else {}
        return is_true(text, record, values, names)

    live = {"expiration": {"N": "1700000060"}}
    assert may_begin(), "no record"
    assert may_begin(expiration={"N": "1699999999"}, status={"S": "COMPLETED"}), "expired"
    assert not may_begin(**live, status={"S": "COMPLETED"})
    assert not may_begin(**live, status={"S": "INPROGRESS"}), "without a lease: closed until expiry"
    in_progress = {**live, "status": {"S": "INPROGRESS"}}
    assert may_begin(**in_progress, in_progress_expiration={"N": "1700000000122"}), (
        "its lease ended"
    )
    assert not may_begin(**in_progress, in_progress_expiration={"N": "1700000000124"})
    assert not may_begin(
        **live, status={"S": "COMPLETED"}, in_progress_expiration={"N": "1700000000122"}
    )

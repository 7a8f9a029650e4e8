"""The table of actions is that of the service's model, as botocore has it."""

from typing import Any

import pytest
from botocore.model import ServiceModel, Shape, StructureShape
from botocore.session import get_session

from durableq.serve import errors
from durableq.serve.errors import Kind
from durableq.serve.wire.actions import ACTIONS
from durableq.serve.wire.shapes import List, Map, Scalar, Structure

MODEL: ServiceModel = get_session().get_service_model("sqs")


def compare(ours: Any, theirs: Shape, at: str) -> None:
    """Compare the types, the names, and which members are required."""
    if isinstance(ours, Structure):
        assert isinstance(theirs, StructureShape), at
        assert {member.name for member in ours.members} == {*theirs.members}, at
        assert {member.name for member in ours.required} == {*theirs.required_members}, at
        for member in ours.members:
            compare(member.shape, theirs.members[member.name], f"{at}.{member.name}")
    elif isinstance(ours, List):
        assert theirs.type_name == "list", at
        assert theirs.serialization.get("flattened") is True, at
        compare(ours.of, theirs.member, f"{at}[]")
    elif isinstance(ours, Map):
        assert theirs.type_name == "map", at
        assert theirs.serialization.get("flattened") is True, at
        assert theirs.key.type_name == "string", at
        compare(ours.of, theirs.value, f"{at}{{}}")
    else:
        assert isinstance(ours, Scalar), at
        assert ours.value == theirs.type_name, at


def test_the_table_has_the_actions_of_the_model() -> None:
    assert {*ACTIONS} == {*MODEL.operation_names}
    assert len(ACTIONS) == 23


@pytest.mark.parametrize("name", sorted(MODEL.operation_names))
def test_an_action_has_the_members_of_the_model(name: str) -> None:
    theirs = MODEL.operation_model(name)
    compare(ACTIONS[name].input, theirs.input_shape, name)
    if theirs.output_shape is None:
        assert ACTIONS[name].output.members == ()
    else:
        compare(ACTIONS[name].output, theirs.output_shape, f"{name} answers")


def test_every_error_of_the_model_has_a_kind() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, Kind)]
    ours = {kind.json_type.removeprefix(errors.SQS) for kind in kinds}
    theirs = {name for name in MODEL.shape_names if MODEL.shape_for(name).metadata.get("exception")}
    assert theirs <= ours

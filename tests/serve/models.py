"""The service's model in both protocols, and values of its shapes.

The names of the Query protocol are those of the API reference: botocore's model has them no more.
"""

import copy
from typing import Any

from botocore.model import ServiceModel
from botocore.session import get_session
from hypothesis import strategies as st

_LOADER = get_session().get_component("data_loader")
_JSON: dict[str, Any] = _LOADER.load_service_model("sqs", "service-2")

#: The name of one element, by the shape of the list.
ELEMENTS = {
    "AWSAccountIdList": "AWSAccountId",
    "ActionNameList": "ActionName",
    "AttributeNameList": "AttributeName",
    "BatchResultErrorEntryList": "BatchResultErrorEntry",
    "BinaryList": "BinaryListValue",
    "ChangeMessageVisibilityBatchRequestEntryList": "ChangeMessageVisibilityBatchRequestEntry",
    "ChangeMessageVisibilityBatchResultEntryList": "ChangeMessageVisibilityBatchResultEntry",
    "DeleteMessageBatchRequestEntryList": "DeleteMessageBatchRequestEntry",
    "DeleteMessageBatchResultEntryList": "DeleteMessageBatchResultEntry",
    "ListMessageMoveTasksResultEntryList": "ListMessageMoveTasksResultEntry",
    "MessageAttributeNameList": "MessageAttributeName",
    "MessageList": "Message",
    "MessageSystemAttributeList": "MessageSystemAttributeName",
    "QueueUrlList": "QueueUrl",
    "SendMessageBatchRequestEntryList": "SendMessageBatchRequestEntry",
    "SendMessageBatchResultEntryList": "SendMessageBatchResultEntry",
    "StringList": "StringListValue",
    "TagKeyList": "TagKey",
}
#: The name of one entry, by the member that is a map.
ENTRIES = {
    "Attributes": "Attribute",
    "MessageAttributes": "MessageAttribute",
    "MessageSystemAttributes": "MessageSystemAttribute",
    "Tags": "Tag",
    "tags": "Tag",
}


def _query() -> dict[str, Any]:
    """Return the model as it was before SQS had the JSON protocol."""
    model = copy.deepcopy(_JSON)
    model["metadata"] |= {
        "protocol": "query",
        "protocols": ["query"],
        "xmlNamespace": "http://queue.amazonaws.com/doc/2012-11-05/",
    }
    for name, shape in model["shapes"].items():
        if shape["type"] == "list":
            shape["member"]["locationName"] = ELEMENTS[name]
        elif shape["type"] == "map":
            shape["key"]["locationName"] = "Key" if name == "TagMap" else "Name"
            shape["value"]["locationName"] = "Value"
        for member, of in shape.get("members", {}).items():
            if member in ENTRIES and model["shapes"][of["shape"]]["type"] == "map":
                of["locationName"] = ENTRIES[member]
    for action in model["operations"].values():
        if "output" in action:
            action["output"]["resultWrapper"] = action["name"] + "Result"
    return model


JSON = ServiceModel(_JSON, "sqs")
QUERY = ServiceModel(_query(), "sqs")
ACTIONS = sorted(JSON.operation_names)

#: Texts that XML can have.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r<>&\"'"),
    max_size=12,
)


def values(shape: Any, texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Any]:
    """Return a strategy for values of a shape of botocore's."""
    if shape.type_name == "structure":
        parts = {name: values(member, texts) for name, member in shape.members.items()}
        required = {name: parts.pop(name) for name in shape.required_members}
        if "MessageBody" in required:
            required["MessageBody"] = texts.filter(bool)  # an empty one is a missing one
        return st.fixed_dictionaries(required, optional=parts)
    if shape.type_name == "list":
        return st.lists(values(shape.member, texts), max_size=3)
    if shape.type_name == "map":
        return st.dictionaries(texts.filter(bool), values(shape.value, texts), max_size=3)
    scalars: dict[str, st.SearchStrategy[Any]] = {
        "string": texts,
        "integer": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63) + 1, 2**63 - 1),
        "boolean": st.booleans(),
        "blob": st.binary(max_size=12),
    }
    return scalars[shape.type_name]


def dense(value: Any) -> Any:
    """Return a value without empty lists and maps, which XML and forms do not have."""
    if isinstance(value, dict):
        return {name: dense(one) for name, one in value.items() if one != [] and one != {}}
    return [*map(dense, value)] if isinstance(value, list) else value

"""The actions of SQS: `OPERATIONS[action](context, parameters) -> answer`. It knows no HTTP."""

from __future__ import annotations

from typing import Final

from durableq.serve.context import Action, Operations
from durableq.serve.sqs.attending import attend
from durableq.serve.sqs.dead_letters import list_dead_letter_source_queues
from durableq.serve.sqs.moves import (
    cancel_message_move,
    list_message_moves,
    start_message_move,
)
from durableq.serve.sqs.queue_attributes import get_queue_attributes, set_queue_attributes
from durableq.serve.sqs.queues import (
    create_queue,
    delete_queue,
    get_queue_url,
    list_queues,
    purge_queue,
)
from durableq.serve.sqs.receiving import receive_message
from durableq.serve.sqs.refusals import translating
from durableq.serve.sqs.sending import send_message, send_message_batch
from durableq.serve.sqs.settling import (
    change_message_visibility,
    change_message_visibility_batch,
    delete_message,
    delete_message_batch,
)
from durableq.serve.sqs.tags import (
    add_permission,
    list_queue_tags,
    remove_permission,
    tag_queue,
    untag_queue,
)

__all__ = ["OPERATIONS", "attend"]

_ACTIONS: Final[dict[str, Action]] = {
    "AddPermission": add_permission,
    "CancelMessageMoveTask": cancel_message_move,
    "ChangeMessageVisibility": change_message_visibility,
    "ChangeMessageVisibilityBatch": change_message_visibility_batch,
    "CreateQueue": create_queue,
    "DeleteMessage": delete_message,
    "DeleteMessageBatch": delete_message_batch,
    "DeleteQueue": delete_queue,
    "GetQueueAttributes": get_queue_attributes,
    "GetQueueUrl": get_queue_url,
    "ListDeadLetterSourceQueues": list_dead_letter_source_queues,
    "ListMessageMoveTasks": list_message_moves,
    "ListQueueTags": list_queue_tags,
    "ListQueues": list_queues,
    "PurgeQueue": purge_queue,
    "ReceiveMessage": receive_message,
    "RemovePermission": remove_permission,
    "SendMessage": send_message,
    "SendMessageBatch": send_message_batch,
    "SetQueueAttributes": set_queue_attributes,
    "StartMessageMoveTask": start_message_move,
    "TagQueue": tag_queue,
    "UntagQueue": untag_queue,
}
#: By name, as in the service's model.
OPERATIONS: Final[Operations] = {name: translating(each) for name, each in _ACTIONS.items()}

"""Answers of the Query protocol in JSON."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from durableq import DurableQ
from durableq.serve.sqs import OPERATIONS
from tests.serve.endpoint import endpoint
from tests.support import new_file


def test_answers_of_the_query_protocol_are_json_for_who_accepts_it(
    tmp_path: Path,
) -> None:
    """As API Gateway shows them."""
    accept = {"Accept": "application/json, text/plain"}
    with DurableQ(new_file(tmp_path / "q.db")) as dq, endpoint(dq, OPERATIONS) as server:

        def ask(query: str) -> Any:
            answered = server.ask(f"/?{query}", headers=accept)
            assert answered.headers["content-type"] == "application/json"
            return json.loads(answered.body)

        body = '{"a": "b\rc&quot;"}'
        url = ask("Action=CreateQueue&QueueName=q")["CreateQueueResponse"]["CreateQueueResult"]
        queue = f"QueueUrl={url['QueueUrl']}"
        listed = ask("Action=ListQueues")["ListQueuesResponse"]["ListQueuesResult"]
        assert listed == {"NextToken": None, "queueUrls": [url["QueueUrl"]]}
        sent = ask(f"Action=SendMessage&{queue}&MessageBody={quote(body)}")["SendMessageResponse"]
        assert sent["SendMessageResult"]["SequenceNumber"] is None
        assert sent["ResponseMetadata"]["RequestId"]
        found = ask(f"Action=ReceiveMessage&{queue}&AttributeName.1=SenderId")
        (message,) = found["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"]
        assert (message["Body"], message["MessageAttributes"]) == (body, None)
        assert message["Attributes"] == [{"Name": "SenderId", "Value": "000000000000"}]
        handle = quote(message["ReceiptHandle"])
        deleted = ask(f"Action=DeleteMessage&{queue}&ReceiptHandle={handle}")
        assert {*deleted["DeleteMessageResponse"]} == {"ResponseMetadata"}
        refused = ask("Action=GetQueueUrl&QueueName=nothing")
        assert refused["Error"] == {
            "Code": "AWS.SimpleQueueService.NonExistentQueue",
            "Message": "The specified queue does not exist for this wsdl version.",
            "Type": "Sender",
        }
        unknown = server.ask("/000000000000/q", headers=accept)
        assert (unknown.status, unknown.text) == (404, "<UnknownOperationException/>")

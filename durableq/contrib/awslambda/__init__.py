"""AWS Lambda: registered handlers on events of SQS, and plain Lambda functions on a queue."""

from durableq.contrib.awslambda.invocation import entry

__all__ = ["entry"]

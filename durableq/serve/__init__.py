"""The server of `durableq serve`: the protocols of SQS and of DynamoDB over HTTP."""

"""The application of compose.yaml: orders that are charged once, each with a receipt."""

from durableq import DeadLetter, Decision, Delivery, Discard, DurableQ, Hold, Reject

dq = DurableQ()  # the database is in DURABLEQ_DB
dq.queue("orders")
dq.queue("receipts")


@dq.handler("orders")
def charge(message: Delivery) -> str:
    """Charge an order; its receipt is sent in the transaction that completes the message."""
    order = message.body
    if order["amount"] <= 0:
        raise Reject("amount must be positive")
    with message.transaction() as tx:
        tx.send("receipts", {"order": order["order"], "paid": order["amount"]})
    return "charged"


@dq.recovery("orders")
def decide(dead_letter: DeadLetter) -> Decision:
    """Discard what was rejected, and leave all else to a person."""
    failure = dead_letter.last_failure
    if failure is not None and failure.reason == "rejected":
        return Discard(failure.error_message)
    return Hold("a person should look")

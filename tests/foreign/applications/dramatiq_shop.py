"""Actors of dramatiq on the endpoint; each order that they ship is a line of a file."""

from __future__ import annotations

import os
from pathlib import Path

import dramatiq
from dramatiq.middleware import default_middleware
from dramatiq_sqs import SQSBroker

broker = SQSBroker(
    namespace=os.environ["SHOP_PREFIX"],
    middleware=[
        made() for made in default_middleware if made.__name__ not in {"Prometheus", "AgeLimit"}
    ],
    endpoint_url=os.environ["AWS_ENDPOINT_URL_SQS"],
    region_name="us-east-1",
    dead_letter=True,
)
dramatiq.set_broker(broker)


def _note(line: str) -> None:
    with Path(os.environ["SHOP_SHIPPED"]).open("a") as shipped:
        shipped.write(f"{line}\n")


@dramatiq.actor
def ship(order: int) -> None:
    _note(str(order))


@dramatiq.actor(max_retries=2, min_backoff=500, max_backoff=1000)
def ship_at_second_try(order: int) -> None:
    failed = Path(f"{os.environ['SHOP_SHIPPED']}.failed")
    if not failed.exists():
        failed.touch()
        raise ValueError("not yet")
    _note(str(order))

"""An application of Celery on the endpoint; each order that it ships is a line of a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery import Celery

ENDPOINT = urlsplit(os.environ["AWS_ENDPOINT_URL_SQS"])

app = Celery("shop", broker=f"sqs://test:test@{ENDPOINT.netloc}")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "queue_name_prefix": os.environ["SHOP_PREFIX"],
        "visibility_timeout": 60,
        "wait_time_seconds": 1,
        "polling_interval": 0,
    },
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
)


def _note(line: str) -> None:
    with Path(os.environ["SHOP_SHIPPED"]).open("a") as shipped:
        shipped.write(f"{line}\n")


@app.task
def ship(order: int) -> None:
    _note(str(order))


@app.task(bind=True, max_retries=1)
def ship_at_second_try(self: Any, order: int) -> None:
    if self.request.retries == 0:
        raise self.retry(countdown=1)
    _note(str(order))


@app.task
def ship_after_a_death(order: int) -> None:
    died = Path(f"{os.environ['SHOP_SHIPPED']}.died")
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), 9)
    _note(str(order))

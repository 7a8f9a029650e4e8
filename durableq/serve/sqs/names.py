"""Names of queues: in the store, as ARNs, and as URLs."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from durableq.model.queues import DEAD_LETTER_SUFFIX
from durableq.serve.context import DEFAULT_ACCOUNT, DEFAULT_REGION, Context, region_of_host
from durableq.serve.errors import QUEUE_DOES_NOT_EXIST, ServiceError
from durableq.serve.sqs.reading import Parameters, invalid, required_text

FIFO_SUFFIX: Final = ".fifo"
_NEW_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_ACCOUNT: Final = re.compile("[0-9]{12}", re.ASCII)
_REGION: Final = re.compile("[a-z0-9-]{1,40}", re.ASCII)
#: The names of queues that there may be: Python's have periods too.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}")
#: The longest URL of a queue: a host has 255 characters.
_MAX_URL_CHARS: Final = 1024
_PARTITIONS: Final = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


def place(account: str, region: str) -> str:
    """Return the part of names in the store that says where a queue is; empty: the default."""
    is_default = (account, region) == (DEFAULT_ACCOUNT, DEFAULT_REGION)
    return "" if is_default else f"@{account}.{region}"


class QueueName(NamedTuple):
    """A queue as a client of SQS names it."""

    name: str
    account: str = DEFAULT_ACCOUNT
    region: str = DEFAULT_REGION

    @property
    def key(self) -> str:
        """The name of the queue in the store.

        That of a dead-letter queue ends with `-dlq` there, wherever it is.
        """
        plain = self.name.removesuffix(DEAD_LETTER_SUFFIX)
        return plain + place(self.account, self.region) + self.name[len(plain) :]

    @property
    def arn(self) -> str:
        """The Amazon Resource Name."""
        partition = next(
            (name for prefix, name in _PARTITIONS.items() if self.region.startswith(prefix)), "aws"
        )
        return f"arn:{partition}:sqs:{self.region}:{self.account}:{self.name}"

    @property
    def is_fifo(self) -> bool:
        """Whether its name is that of a FIFO queue."""
        return self.name.endswith(FIFO_SUFFIX)

    def url(self, context: Context) -> str:
        """Return the URL of the queue, as a client is told.

        The region is in each signature, so a URL without one does. Some clients, such as
        Terraform's, take only the form /ACCOUNT/NAME.
        """
        base = context.base_url
        if context.names_regions:
            implied = region_of_host(urlsplit(base).hostname or "") or DEFAULT_REGION
            base += "" if self.region == implied else f"/queue/{self.region}"
        return f"{base}/{self.account}/{self.name}"


def from_key(key: str) -> QueueName:
    """Return the name of a queue of the store."""
    name, found, rest = key.partition("@")
    if not found:
        return QueueName(name)
    plain = rest.removesuffix(DEAD_LETTER_SUFFIX)
    account, _, region = plain.partition(".")
    return QueueName(name + rest[len(plain) :], account, region)


def from_arn(arn: str) -> QueueName | None:
    """Return the queue of an ARN; None if it is none of a queue."""
    parts = arn.split(":")
    if len(parts) != 6 or parts[0] != "arn" or not parts[1].startswith("aws") or parts[2] != "sqs":
        return None
    return _possible(parts[5], parts[4], parts[3])


def new_name(name: str, context: Context, *, is_fifo: bool) -> QueueName:
    """Return the name of a queue that is created.

    Raises:
        ServiceError: it is not possible.
    """
    if is_fifo and not name.endswith(FIFO_SUFFIX):
        raise invalid(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or "
            "underscores, must end with .fifo suffix and be 1 to 80 in length"
        )
    plain = name.removesuffix(FIFO_SUFFIX) + "_fifo" if is_fifo else name
    if not _NEW_NAME.fullmatch(plain):
        raise invalid(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        )
    return QueueName(name, context.account, context.region)


def of_url(context: Context, parameters: Parameters) -> QueueName:
    """Return the queue that a request names by its URL, or by its name alone.

    The region is that of the URL if it has one, and otherwise that of the signature.

    Raises:
        ServiceError: it is no URL of a queue.
    """
    return _of_url(required_text(parameters, "QueueUrl"), context.account, context.region)


@lru_cache  # clients name the same few queues in each request
def _of_url(text: str, account: str, region: str) -> QueueName:
    found = _found(text, account, region) if len(text) <= _MAX_URL_CHARS else None
    if found is None:
        raise ServiceError(QUEUE_DOES_NOT_EXIST)
    return found


def _found(text: str, account: str, region: str) -> QueueName | None:
    """Return the queue of a URL, or of a name in this account and region; None: of neither."""
    try:
        url = urlsplit(text)
        host = url.hostname or ""
    except ValueError:
        return None
    match [part for part in url.path.split("/") if part]:
        case ["queue", named_region, named_account, name]:
            return _possible(name, named_account, named_region)
        case [named_account, name]:
            return _possible(name, named_account, region_of_host(host) or region)
        case [name] if not url.netloc:
            return _possible(name, account, region)
    return None


def _possible(name: str, account: str, region: str) -> QueueName | None:
    if _NAME.fullmatch(name) and _ACCOUNT.fullmatch(account) and _REGION.fullmatch(region):
        return QueueName(name, account, region)
    return None

"""The errors that a client of AWS knows, as both protocols write them.

An action raises `ServiceError(KIND, message)`. The kinds of SQS have the two names that AWS gives
each error: that of the JSON protocol, and the code of the older Query protocol, which an SDK shows
too. Parameter errors are of another family than those of the service's model.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

SQS: Final = "com.amazonaws.sqs#"
CORAL: Final = "com.amazon.coral.service#"
DYNAMODB: Final = "com.amazonaws.dynamodb.v20120810#"
VALIDATION: Final = "com.amazon.coral.validate#"

SENDER: Final = "Sender"
RECEIVER: Final = "Receiver"


class Kind(NamedTuple):
    """A kind of error.

    Args:
        json_type: the `__type` of the JSON protocol.
        code: the code of the Query protocol, and of the header x-amzn-query-error.
        status: of HTTP.
        message: the sentence, where it is always the same.
        query_message: the sentence in the Query protocol, where it differs.
    """

    json_type: str
    code: str
    status: int = 400
    message: str = ""
    query_message: str = ""

    @property
    def fault(self) -> str:
        """Whose fault it is: SDKs repeat a request that failed by the receiver's."""
        return RECEIVER if self.status >= 500 else SENDER


class ServiceError(Exception):
    """An action is refused, or has failed.

    Args:
        kind: the kind of error.
        message: the sentence for people; by default that of the kind.
        details: further members of the answer in the JSON protocol, such as `Item`.
    """

    def __init__(self, kind: Kind, message: str | None = None, **details: Any) -> None:
        self.kind = kind
        self.message = kind.message if message is None else message
        #: The same in the Query protocol.
        self.query_message = (kind.query_message or kind.message) if message is None else message
        self.details = details
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.kind.code}: {self.message}"


def _modelled(name: str, code: str = "", status: int = 400, message: str = "") -> Kind:
    return Kind(SQS + name, code or name, status, message)


def _own_code(name: str, status: int = 400, message: str = "") -> Kind:
    """Return an error of SQS whose code has the prefix of the service."""
    return _modelled(name, f"AWS.SimpleQueueService.{name}", status, message)


#: The errors of the model of SQS.
BATCH_ENTRY_IDS_NOT_DISTINCT: Final = _own_code("BatchEntryIdsNotDistinct")
BATCH_REQUEST_TOO_LONG: Final = _own_code("BatchRequestTooLong")
EMPTY_BATCH_REQUEST: Final = _own_code("EmptyBatchRequest")
INVALID_ADDRESS: Final = _modelled("InvalidAddress")
INVALID_ATTRIBUTE_NAME: Final = _modelled("InvalidAttributeName")
INVALID_ATTRIBUTE_VALUE: Final = _modelled("InvalidAttributeValue")
INVALID_BATCH_ENTRY_ID: Final = _own_code(
    "InvalidBatchEntryId",
    message="A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
    "It can be at most 80 letters long.",
)
INVALID_ID_FORMAT: Final = _modelled("InvalidIdFormat")
INVALID_MESSAGE_CONTENTS: Final = _modelled("InvalidMessageContents")
INVALID_SECURITY: Final = _modelled("InvalidSecurity", status=403)
MESSAGE_NOT_IN_FLIGHT: Final = _own_code("MessageNotInflight")
OVER_LIMIT: Final = _modelled("OverLimit", status=403)
PURGE_QUEUE_IN_PROGRESS: Final = _own_code("PurgeQueueInProgress", 403)
QUEUE_DELETED_RECENTLY: Final = _own_code(
    "QueueDeletedRecently",
    message="You must wait 60 seconds after deleting a queue before you can create another with "
    "the same name.",
)
QUEUE_DOES_NOT_EXIST: Final = Kind(
    SQS + "QueueDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    message="The specified queue does not exist.",
    query_message="The specified queue does not exist for this wsdl version.",
)
QUEUE_NAME_EXISTS: Final = _modelled("QueueNameExists", "QueueAlreadyExists")
RECEIPT_HANDLE_IS_INVALID: Final = _modelled("ReceiptHandleIsInvalid")
REQUEST_THROTTLED: Final = _modelled("RequestThrottled", status=403)
RESOURCE_NOT_FOUND: Final = _modelled("ResourceNotFoundException", status=404)
TOO_MANY_ENTRIES_IN_BATCH_REQUEST: Final = _own_code("TooManyEntriesInBatchRequest")
UNSUPPORTED_OPERATION: Final = _own_code("UnsupportedOperation")
KMS_ACCESS_DENIED: Final = _modelled("KmsAccessDenied", "KMS.AccessDeniedException")
KMS_DISABLED: Final = _modelled("KmsDisabled", "KMS.DisabledException")
KMS_INVALID_KEY_USAGE: Final = _modelled("KmsInvalidKeyUsage", "KMS.InvalidKeyUsageException")
KMS_INVALID_STATE: Final = _modelled("KmsInvalidState", "KMS.InvalidStateException")
KMS_NOT_FOUND: Final = _modelled("KmsNotFound", "KMS.NotFoundException")
KMS_OPT_IN_REQUIRED: Final = _modelled("KmsOptInRequired", "KMS.OptInRequired", 403)
KMS_THROTTLED: Final = _modelled("KmsThrottled", "KMS.ThrottlingException")

#: The errors of parameters, which no model has.
INVALID_PARAMETER_VALUE: Final = Kind(
    CORAL + "InvalidParameterValueException", "InvalidParameterValue"
)
MISSING_PARAMETER: Final = Kind(CORAL + "MissingRequiredParameterException", "MissingParameter")
SERIALIZATION: Final = Kind(CORAL + "SerializationException", "MalformedInput")
#: An action that there is not, in the JSON protocol, and in the Query protocol.
UNKNOWN_OPERATION: Final = Kind(CORAL + "UnknownOperationException", "InvalidAction")
MISSING_ACTION: Final = Kind(CORAL + "UnknownOperationException", "MissingAction")

#: The errors of requests as such.
INCOMPLETE_SIGNATURE: Final = Kind(CORAL + "IncompleteSignatureException", "IncompleteSignature")
MISSING_AUTHENTICATION_TOKEN: Final = Kind(
    CORAL + "MissingAuthenticationTokenException", "MissingAuthenticationToken", 403
)
UNRECOGNIZED_CLIENT: Final = Kind(
    CORAL + "UnrecognizedClientException",
    "InvalidClientTokenId",
    403,
    "The security token included in the request is invalid.",
)
SIGNATURE_DOES_NOT_MATCH: Final = Kind(
    CORAL + "InvalidSignatureException",
    "SignatureDoesNotMatch",
    403,
    "The request signature we calculated does not match the signature you provided. Check your "
    "AWS Secret Access Key and signing method. Consult the service documentation for details.",
)
ACCESS_DENIED: Final = Kind(CORAL + "AccessDeniedException", "AccessDenied", 403)
REQUEST_TOO_LARGE: Final = Kind(CORAL + "RequestEntityTooLargeException", "RequestTooLarge", 413)
REQUEST_TIMEOUT: Final = Kind(CORAL + "RequestTimeoutException", "RequestTimeout", 408)
NOT_FOUND: Final = Kind(CORAL + "UnknownOperationException", "UnknownOperationException", 404)
INTERNAL_FAILURE: Final = Kind(
    CORAL + "InternalFailure",
    "InternalFailure",
    500,
    "The request processing has failed because of an unknown error, exception or failure.",
)
SERVICE_UNAVAILABLE: Final = Kind(CORAL + "ServiceUnavailableException", "ServiceUnavailable", 503)

#: The errors of DynamoDB.
CONDITIONAL_CHECK_FAILED: Final = Kind(
    DYNAMODB + "ConditionalCheckFailedException",
    "ConditionalCheckFailedException",
    message="The conditional request failed",
)
DYNAMODB_RESOURCE_NOT_FOUND: Final = Kind(
    DYNAMODB + "ResourceNotFoundException",
    "ResourceNotFoundException",
    message="Requested resource not found",
)
RESOURCE_IN_USE: Final = Kind(DYNAMODB + "ResourceInUseException", "ResourceInUseException")
LIMIT_EXCEEDED: Final = Kind(DYNAMODB + "LimitExceededException", "LimitExceededException")
TRANSACTION_CANCELED: Final = Kind(
    DYNAMODB + "TransactionCanceledException", "TransactionCanceledException"
)
TRANSACTION_CONFLICT: Final = Kind(
    DYNAMODB + "TransactionConflictException", "TransactionConflictException"
)
IDEMPOTENT_PARAMETER_MISMATCH: Final = Kind(
    DYNAMODB + "IdempotentParameterMismatchException", "IdempotentParameterMismatchException"
)
ITEM_COLLECTION_SIZE_LIMIT_EXCEEDED: Final = Kind(
    DYNAMODB + "ItemCollectionSizeLimitExceededException",
    "ItemCollectionSizeLimitExceededException",
)
INTERNAL_SERVER_ERROR: Final = Kind(
    DYNAMODB + "InternalServerError", "InternalServerError", 500, "Internal server error"
)
VALIDATION_ERROR: Final = Kind(VALIDATION + "ValidationException", "ValidationException")

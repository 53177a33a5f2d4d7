"""boto3, which may not be installed, with errors that say what is wrong and what to do."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

from mms_handler.errors import ArchiveError

_CREDENTIALS = (
    "S3 refuses the credentials; renew them, or correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
    "and AWS_SESSION_TOKEN"
)
_REGION = "the bucket is in another region; set AWS_DEFAULT_REGION"
REPLACED = "it was replaced meanwhile; try again"

#: What is wrong and what to do, by S3's error codes and by the names of boto3's exceptions.
_ADVICE = {
    "NoSuchBucket": "there is no bucket of this name; for an S3 that is not AWS's, set "
    "AWS_ENDPOINT_URL",
    "NoSuchKey": "the bucket has no such object; the address of a folder ends with /",
    "AccessDenied": "the credentials do not allow it, or the object does not exist; they need "
    "s3:GetObject, for a folder s3:ListBucket, and for an upload s3:PutObject",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "NoCredentialsError": "there are no credentials; set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "EndpointConnectionError": "S3 cannot be reached; check the network, the region and "
    "AWS_ENDPOINT_URL",
    "ConnectTimeoutError": "S3 does not answer; check the network, proxies and AWS_ENDPOINT_URL",
    "S3DownloadFailedError": REPLACED,
    "PreconditionFailed": REPLACED,
}


@contextlib.contextmanager
def boto3_with_advice(url: str, what: str = "downloaded") -> Iterator[Any]:
    """Yield boto3; its errors become ArchiveErrors that say ``what`` failed, and what to do."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer import exceptions
    except ImportError as exc:
        raise ArchiveError(
            f"{url} needs boto3, which is not installed: pip install 'mms_handler[s3]'"
        ) from exc
    # The s3transfer of Python 3.8 does not have it.
    replaced = getattr(exceptions, "S3DownloadFailedError", ClientError)
    try:
        yield boto3
    except (boto3.exceptions.Boto3Error, BotoCoreError, ClientError, replaced) as exc:
        raise ArchiveError(f"{url} cannot be {what}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    """Why boto3 failed, and what to do if that is known."""
    exc = getattr(exc, "last_exception", exc)  # of several attempts
    if type(exc).__name__ == "S3UploadFailedError" and isinstance(exc.__context__, Exception):
        exc = exc.__context__  # why
    error = getattr(exc, "response", {}).get("Error", {})
    code = error.get("Code", type(exc).__name__)
    if code in _ADVICE:
        return f"{_ADVICE[code]} ({code})" if error else _ADVICE[code]
    return f"{error['Message']} ({code})" if error else str(exc)

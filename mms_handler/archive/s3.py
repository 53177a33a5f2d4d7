"""Download an object from S3."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

from mms_handler.archive import files
from mms_handler.errors import ArchiveError

_ATTEMPTS = 5  # if a download's connection breaks; botocore itself repeats failed requests
_CHUNK = 2**18  # bytes


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int | None = None,
    region: str | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Path:
    """Download an object to ``target``; start over if the connection breaks.

    Args:
        url: s3://bucket/key; a key may contain ? and #.
        target: the file to write.
        max_bytes: the largest object allowed; None for any.
        region: the bucket's; None leaves it to boto3.
        progress: called with the size of each chunk in bytes; when the download starts over, with
            a negative number.

    Returns:
        ``target``.

    Raises:
        ArchiveError: the download fails, the object is too large, or boto3 is not installed.
    """
    bucket, key = split(url)
    client, connection_errors, other_errors = _client(url, region)
    for attempt in range(_ATTEMPTS):
        try:
            body = client.get_object(Bucket=bucket, Key=key)["Body"]
            files.save(body.iter_chunks(_CHUNK), target, url, max_bytes, progress)
            return target
        except connection_errors as exc:
            if attempt == _ATTEMPTS - 1:
                raise ArchiveError(f"{url} cannot be downloaded: {exc}") from exc
            time.sleep(0.1 * 2**attempt)
        except other_errors as exc:
            raise ArchiveError(f"{url} cannot be downloaded: {exc}") from exc
    raise AssertionError("the last attempt returns or raises")


def split(url: str) -> tuple[str, str]:
    """The bucket and the key of an s3:// address.

    Raises:
        ArchiveError: one of them is missing.
    """
    bucket, key = urlsplit(url).netloc, url.partition("://")[2].partition("/")[2]
    if not bucket or not key or key.endswith("/"):
        raise ArchiveError(f"{url} is not an object's address: expected s3://bucket/key.tar.gz")
    return bucket, key


def _client(
    url: str, region: str | None
) -> tuple[Any, tuple[type[BaseException], ...], tuple[type[BaseException], ...]]:
    """An S3 client, its errors for a broken connection, and its other errors."""
    try:
        import boto3
        from botocore import exceptions
        from botocore.config import Config
    except ImportError as exc:
        raise ArchiveError(
            f"{url} needs boto3, which is not installed: pip install 'mms_handler[s3]'"
        ) from exc
    config = Config(retries={"mode": "standard", "max_attempts": _ATTEMPTS})
    connection_errors = (exceptions.HTTPClientError, exceptions.IncompleteReadError)
    other_errors = (exceptions.BotoCoreError, exceptions.ClientError)
    session = boto3.session.Session()  # boto3's default session keeps the first credentials
    client = session.client("s3", region_name=region, config=config)
    return client, connection_errors, other_errors

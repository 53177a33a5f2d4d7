"""An object of S3, as a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

from mms_handler.archive import files
from mms_handler.errors import ArchiveError

_ATTEMPTS = 5  # at a download whose connection breaks; requests that fail are botocore's to repeat
_CHUNK = 2**18  # bytes


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int | None = None,
    region: str | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Path:
    """The object is at ``target``; a connection that breaks was tried again.

    Args:
        url: s3://bucket/key; a key may have ? and #.
        target: the file to write.
        max_bytes: what it may have; None: anything.
        region: the bucket's; None leaves it to boto3.
        progress: told the bytes as they come, less than 0 for those that a broken connection
            makes it fetch again.

    Returns:
        ``target``.

    Raises:
        ArchiveError: it cannot be had, it is larger, or boto3 is not installed.
    """
    bucket, key = split(url)
    client, broken, failed = _client(url, region)
    for attempt in range(_ATTEMPTS):
        try:
            body = client.get_object(Bucket=bucket, Key=key)["Body"]
            files.save(body.iter_chunks(_CHUNK), target, url, max_bytes, progress)
            return target
        except broken as exc:
            if attempt == _ATTEMPTS - 1:
                raise ArchiveError(f"{url} cannot be downloaded: {exc}") from exc
            time.sleep(0.1 * 2**attempt)
        except failed as exc:
            raise ArchiveError(f"{url} cannot be downloaded: {exc}") from exc
    raise AssertionError("the last attempt returns or raises")


def split(url: str) -> tuple[str, str]:
    """Bucket and key.

    Raises:
        ArchiveError: ``url`` has not both.
    """
    bucket, key = urlsplit(url).netloc, url.partition("://")[2].partition("/")[2]
    if not bucket or not key or key.endswith("/"):
        raise ArchiveError(f"{url} names no object: wanted s3://bucket/key.tar.gz")
    return bucket, key


def _client(
    url: str, region: str | None
) -> tuple[Any, tuple[type[BaseException], ...], tuple[type[BaseException], ...]]:
    """S3's client, what it raises when a connection breaks, and all else that it raises."""
    try:
        import boto3
        from botocore import exceptions
        from botocore.config import Config
    except ImportError as exc:
        raise ArchiveError(
            f"{url} needs boto3, which is not installed: pip install 'mms_handler[s3]'"
        ) from exc
    config = Config(retries={"mode": "standard", "max_attempts": _ATTEMPTS})
    broken = (exceptions.HTTPClientError, exceptions.IncompleteReadError)
    failed = (exceptions.BotoCoreError, exceptions.ClientError)
    session = boto3.session.Session()  # the default one keeps the credentials it first found
    return session.client("s3", region_name=region, config=config), broken, failed

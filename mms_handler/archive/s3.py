"""Objects in S3: download one or a folder of them, list and read them, upload a file."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple
from urllib.parse import urlsplit

from mms_handler.archive.safety import MAX_BYTES, Entries
from mms_handler.errors import ArchiveError

_CREDENTIALS = (
    "S3 refuses the credentials; renew them, or correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
    "and AWS_SESSION_TOKEN"
)
_REGION = "the bucket is in another region; set AWS_DEFAULT_REGION"
_REPLACED = "it was replaced meanwhile; try again"

#: How often a read is tried whose connection breaks.
_ATTEMPTS = 5

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
    "S3DownloadFailedError": _REPLACED,
    "PreconditionFailed": _REPLACED,
}


class Object(NamedTuple):
    """One version of an object, which changes its ETag when it is replaced."""

    key: str
    size_bytes: int
    etag: str


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int | None = None,
    region: str | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Path:
    """Download an object to the file ``target``, or the objects of a folder to a new folder.

    boto3 transfers parts of a large object at the same time, and starts a part over if its
    connection breaks.

    Args:
        url: s3://bucket/key, or s3://bucket/folder/; a key may contain ? and #.
        target: the file or the folder to write.
        max_bytes: how large the objects may be together; None for any size.
        region: the bucket's; None leaves it to boto3.
        progress: called with the size of each chunk in bytes, perhaps by several threads; when a
            part starts over, with a negative number.

    Returns:
        ``target``.

    Raises:
        ArchiveError: the download fails, the objects are too large, are replaced meanwhile or have
            unsafe names, or boto3 is not installed.
    """
    bucket, key = split(url)
    with _boto3(url) as boto3:
        session = boto3.session.Session()  # boto3's default session keeps the first credentials
        client = session.client("s3", region_name=region)
        objects = _objects(client, bucket, key)
        size_bytes = sum(each.size_bytes for each in objects.values())
        if not objects:
            raise ArchiveError(f"{url} has no objects")
        if max_bytes is not None and size_bytes > max_bytes:
            raise ArchiveError(f"{url} has more than {max_bytes:,} bytes")
        for name, each in objects.items():
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, each.key, str(file), Callback=progress)
        # Old versions of boto3 may mix parts of two versions, and a folder is not replaced at once.
        if _objects(client, bucket, key) != objects:
            raise ArchiveError(f"{url} cannot be downloaded: {_REPLACED}")
    return target


def upload(file: Path, url: str) -> None:
    """Write a file of a few megabytes to an object.

    Args:
        file: the file.
        url: s3://bucket/key.

    Raises:
        ArchiveError: the upload fails, or boto3 is not installed.
    """
    bucket, key = split(url)
    with _boto3(url, "uploaded") as boto3, file.open("rb") as body:
        client = boto3.session.Session().client("s3")
        client.put_object(Bucket=bucket, Key=key, Body=body)


def client(url: str) -> Any:
    """A client of boto3 for many calls, from any thread; to make one takes a third of a second.

    Args:
        url: that it is for, in a message.

    Raises:
        ArchiveError: boto3 is not installed, or not set up.
    """
    with _boto3(url, "opened") as boto3:
        return boto3.session.Session().client("s3")


def upload_large(file: Path, url: str, s3_client: Any) -> None:
    """Write a file of any size to an object, in parts; the object appears when it is whole.

    Args:
        file: the file.
        url: s3://bucket/key.
        s3_client: from ``client``.

    Raises:
        ArchiveError: the upload fails.
    """
    bucket, key = split(url)
    with _boto3(url, "uploaded"):
        s3_client.upload_file(str(file), bucket, key)


def listed(url: str, s3_client: Any) -> Iterator[Object]:
    """The objects whose keys begin as ``url`` does, in the order of their keys.

    Args:
        url: s3://bucket/ and the beginning of keys, perhaps none.
        s3_client: from ``client``.

    Raises:
        ArchiveError: they cannot be listed, or boto3 is not installed.
    """
    bucket, prefix = urlsplit(url).netloc, url.partition("://")[2].partition("/")[2]
    with _boto3(url, "listed"):
        pages = s3_client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield Object(entry["Key"], entry["Size"], entry["ETag"])


class Reader(io.RawIOBase):
    """One version of an object as a file; a connection that breaks is opened again."""

    def __init__(self, url: str, etag: str, s3_client: Any, offset: int = 0) -> None:
        """Open nothing yet.

        Args:
            url: s3://bucket/key.
            etag: of the version.
            s3_client: from ``client``.
            offset: where to begin, in bytes.
        """
        self._url, self._etag, self._at = url, etag, offset
        self._client = s3_client
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0 at the end.

        Raises:
            ArchiveError: the object cannot be read, or was replaced.
        """
        for attempt in range(_ATTEMPTS):
            try:
                data = self._some(len(buffer))
                break
            except ArchiveError as exc:
                self._body = None
                cause = exc.__cause__
                if attempt == _ATTEMPTS - 1 or getattr(cause, "response", None) is not None:
                    raise
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _some(self, size: int) -> bytes:
        with _boto3(self._url, "read"):
            if self._body is None:
                self._body = self._opened()
            data: bytes = self._body.read(size)
            return data

    def _opened(self) -> Any:
        from botocore.exceptions import ClientError

        bucket, key = split(self._url)
        options = {"Range": f"bytes={self._at}-"} if self._at else {}
        try:
            return self._client.get_object(Bucket=bucket, Key=key, IfMatch=self._etag, **options)[
                "Body"
            ]
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "InvalidRange":  # nothing is left
                return io.BytesIO()
            raise


def check_boto3(url: str) -> None:
    """Do nothing if boto3 is installed.

    Raises:
        ArchiveError: it is not.
    """
    with _boto3(url):
        return


def split(url: str) -> tuple[str, str]:
    """The bucket and the key of an s3:// address.

    Raises:
        ArchiveError: one of them is missing.
    """
    bucket, key = urlsplit(url).netloc, url.partition("://")[2].partition("/")[2]
    if not bucket or not key.strip("/"):
        raise ArchiveError(f"{url} is not an object's address: expected s3://bucket/key.tar.gz")
    return bucket, key


def _objects(client: Any, bucket: str, key: str) -> Mapping[str, Object]:
    """The objects of a folder by their names in it; an object that is no folder has the name "".

    Raises:
        ArchiveError: a name in the folder is not safe.
    """
    if not key.endswith("/"):
        answer = client.get_object(Bucket=bucket, Key=key)  # HEAD would not say what is missing
        answer["Body"].close()
        return {"": Object(key, answer["ContentLength"], answer["ETag"])}
    objects, entries = {}, Entries(MAX_BYTES)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
        for entry in page.get("Contents", []):
            name = entry["Key"][len(key) :]
            if name and not name.endswith("/"):  # consoles make objects for folders
                try:
                    entries.add(name, 0, entry["Size"])
                except ArchiveError as exc:
                    raise ArchiveError(f"s3://{bucket}/{key} has no model: {exc}") from exc
                objects[name] = Object(entry["Key"], entry["Size"], entry["ETag"])
    return objects


@contextlib.contextmanager
def _boto3(url: str, what: str = "downloaded") -> Iterator[Any]:
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

"""Objects in S3: download one or a folder of them, list and read them, upload a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple
from urllib.parse import urlsplit

from mms_handler.archive.boto import REPLACED, boto3_with_advice
from mms_handler.archive.safety import MAX_BYTES, Entries
from mms_handler.errors import ArchiveError

#: How often a read is tried whose connection breaks.
_ATTEMPTS = 5


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
    with boto3_with_advice(url) as boto3:
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
            raise ArchiveError(f"{url} cannot be downloaded: {REPLACED}")
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
    with boto3_with_advice(url, "uploaded") as boto3, file.open("rb") as body:
        client = boto3.session.Session().client("s3")
        client.put_object(Bucket=bucket, Key=key, Body=body)


def client(url: str) -> Any:
    """A client of boto3 for many calls, from any thread; to make one takes a third of a second.

    Args:
        url: that it is for, in a message.

    Raises:
        ArchiveError: boto3 is not installed, or not set up.
    """
    with boto3_with_advice(url, "opened") as boto3:
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
    with boto3_with_advice(url, "uploaded"):
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
    with boto3_with_advice(url, "listed"):
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
        with boto3_with_advice(self._url, "read"):
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
    with boto3_with_advice(url):
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

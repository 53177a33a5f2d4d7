"""capturing: a folder that can be written, and uploads that are tried again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mms_handler.errors import ServerError
from mms_handler.server import capturing
from mms_handler.server.capturing import Uploads, folder_for

pytest_plugins = ["local_s3"]

NAME = "capture-20261127T103100.018Z-1a2b3c4d.jsonl"
KEY = f"captured/2026/11/27/10/{NAME}"


def keys(bucket) -> list[str]:
    objects = bucket.client.list_objects_v2(Bucket="bucket").get("Contents", [])
    return [entry["Key"] for entry in objects]


def test_a_folder_is_made_and_stays(tmp_path):
    """Only its owner may enter it; nothing is left of the probe."""
    place = tmp_path / "a" / "captured"
    with folder_for(str(place)) as folder:
        assert folder == str(place)
    assert place.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root may write anywhere else")
def test_a_full_folder():
    """What is seen at the start is said at the start: /proc takes no file from anyone."""
    with pytest.raises(ServerError, match="^predictions cannot be captured in /proc/captured: "):
        folder_for("/proc/captured").__enter__()


def test_finished_files_are_uploaded(bucket, tmp_path):
    """Into the folder of their hour, and removed; the one that is being written stays."""
    (tmp_path / NAME).write_text("line\n")
    (tmp_path / f"{NAME[:-10]}0.jsonl.part").write_text("li")
    Uploads(tmp_path, "s3://bucket/captured/").look()
    assert keys(bucket) == [KEY]
    assert bucket.client.get_object(Bucket="bucket", Key=KEY)["Body"].read() == b"line\n"
    assert [file.suffix for file in tmp_path.iterdir()] == [".part"]


def test_an_upload_that_fails_is_tried_again(bucket, tmp_path, caplog):
    """After a pause, with one warning, which says what is missing."""
    caplog.set_level("INFO")
    uploads = Uploads(tmp_path, "s3://bucket/captured")
    (tmp_path / NAME).write_text("line\n")
    bucket.s3.refusal = "AccessDenied"
    uploads.look()
    asked = len(bucket.s3.requests)
    uploads.look()
    assert len(bucket.s3.requests) == asked
    uploads.end(0.3)
    assert (tmp_path / NAME).exists()
    bucket.s3.refusal = None
    uploads.end(5)
    assert keys(bucket) == [KEY]
    messages = [
        record.getMessage() for record in caplog.records if record.name.startswith("mms_handler")
    ]
    assert messages[0].startswith(
        f"captured predictions wait: s3://bucket/{KEY} cannot be uploaded"
    )
    assert "s3:PutObject" in messages[0]
    assert messages[1:] == [
        "files of captured predictions that are lost: 1, for s3://bucket/captured",
        "captured predictions are uploaded again",
    ]


def test_an_address_has_a_folder_for_a_while(bucket, monkeypatch):
    """What the gate writes there is uploaded while it writes, and at the end: SIGTERM raises."""
    monkeypatch.setattr(capturing, "_EVERY_S", 0.05)

    def write(folder: str) -> None:
        path = os.path.join(folder, NAME)
        Path(path).write_text("line\n")
        deadline = time.monotonic() + 10
        while os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        Path(path.replace("103100", "113100")).write_text("the last\n")
        raise KeyboardInterrupt

    folders = []
    with pytest.raises(KeyboardInterrupt), folder_for("s3://bucket/captured") as folder:
        write(folders.append(folder) or folder)
    assert len(keys(bucket)) == 2
    assert not os.path.exists(folders[0])

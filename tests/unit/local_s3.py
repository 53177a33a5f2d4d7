"""A local S3 server, so that connections really break."""

from __future__ import annotations

import contextlib
import http.server
import os
import threading

import pytest

from mms_handler.archive import s3


class Bucket:
    """The server's state.

    Attributes:
        objects: content by path.
        breaks: how many answers break off half-way before one is complete.
        requests: the paths of all requests.
        status: the status for an object that does not exist.
    """

    def __init__(self):
        self.objects, self.breaks, self.requests, self.status = {}, 0, [], 404


@contextlib.contextmanager
def serving(bucket):
    """Serve the bucket for the length of a ``with`` block; gives the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            bucket.requests.append(self.path)
            data = bucket.objects.get(self.path.partition("?")[0])
            if data is None:
                return self.answer(bucket.status, b"<Error><Code>NoSuchKey</Code></Error>", None)
            broken, bucket.breaks = bucket.breaks > 0, bucket.breaks - 1
            return self.answer(200, data, len(data) // 2 if broken else None)

        def answer(self, status, data, cut):
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data[:cut])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A bucket of a local S3 server that boto3 uses, because its environment variables say so."""
    pytest.importorskip("boto3")
    monkeypatch.setattr(s3.time, "sleep", lambda seconds: None)
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower() in ("http_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    local_bucket = Bucket()
    with serving(local_bucket) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        yield local_bucket

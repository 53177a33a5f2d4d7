"""A local S3 server: moto's, behind faults that a test can choose."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
import urllib.request
import warnings

import pytest


class LocalS3:
    """A WSGI application with moto's S3, and what a test needs of it.

    Attributes:
        requests: the methods and the paths of all requests, in order.
        breaks: how many answers with an object's content break off half-way before one is whole.
        slow: whether content comes at 100 kB a second.
        region: where the buckets are.  As S3 does it, a request that is signed for another region
            gets 301, with the right one.
        redirects: how often one got that.
        refusal: S3's error code for every request, with 403; None for no such error.
        before: called before each request with its method and path.
        url: the server's.
    """

    def __init__(self, app):
        self._app, self.url = app, ""
        self.reset()

    def reset(self):
        """Forget all objects and faults."""
        self.requests, self.breaks, self.region = [], 0, None
        self.redirects, self.slow = 0, False
        self.refusal, self.before = None, lambda method, path: None

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if not path.startswith("/moto-api"):
            self.requests.append(f"{method} {path}")
            self.before(method, path)
        signed_for = re.search(r"/([\w-]+)/s3/aws4_", environ.get("HTTP_AUTHORIZATION", ""))
        if self.refusal:
            return self._refuse(start_response, "403 Forbidden", self.refusal, [])
        if self.region and signed_for and signed_for[1] != self.region:
            self.redirects += 1
            header = [("x-amz-bucket-region", self.region)]
            return self._refuse(
                start_response, "301 Moved Permanently", "PermanentRedirect", header
            )
        body = self._app(environ, start_response)
        if method == "GET" and path.count("/") > 1 and (self.breaks > 0 or self.slow):
            data = b"".join(body)
            if self.slow:
                return self._slowly(data)
            self.breaks -= 1
            return [data[: len(data) // 2]]  # less than its Content-Length
        return body

    def _slowly(self, data):
        for start in range(0, len(data), 10_000):
            yield data[start : start + 10_000]
            time.sleep(0.1)

    def _refuse(self, start_response, status, code, headers):
        start_response(status, [("Content-Type", "application/xml"), *headers])
        return [f"<Error><Code>{code}</Code><Message>{code}!</Message></Error>".encode()]


class Bucket:
    """The bucket called "bucket" of a local S3.

    Attributes:
        s3: the server.
        client: a client of boto3.
    """

    def __init__(self, s3, client):
        self.s3, self.client = s3, client

    def put(self, key, content):
        """Write an object, from bytes or from a file."""
        self.client.put_object(
            Bucket="bucket",
            Key=key,
            Body=content if isinstance(content, bytes) else content.read_bytes(),
        )
        self.s3.requests.clear()


@contextlib.contextmanager
def serving():
    """A local S3 server for the length of a ``with`` block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other packages
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        app = LocalS3(DomainDispatcherApplication(create_backend_app))
        server = make_server("127.0.0.1", 0, app, threaded=True)
    app.url = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield app
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def s3():
    """A local S3 server, and a client of it."""
    boto3 = pytest.importorskip("boto3")
    with serving() as server:
        session = boto3.session.Session("id", "key", region_name="us-east-1")
        yield server, session.client("s3", endpoint_url=server.url)


def variables(server):
    """The variables with which boto3 uses a local S3 server, and nothing of this machine."""
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


@pytest.fixture
def bucket(monkeypatch, s3):
    """An empty bucket of a local S3 server that boto3 uses, because its variables say so."""
    server, client = s3
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower() in ("http_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    for name, value in variables(server).items():
        monkeypatch.setenv(name, value)
    server.reset()
    urllib.request.urlopen(f"{server.url}/moto-api/reset", data=b"").close()
    client.create_bucket(Bucket="bucket")
    server.requests.clear()
    return Bucket(server, client)

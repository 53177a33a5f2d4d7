"""archive.fetch: archives from allowed addresses, and from no others."""

from __future__ import annotations

import http.server
import os
import sys
import threading

import pytest

from mms_handler import archive
from mms_handler.archive.fetch import check_url
from mms_handler.errors import ArchiveError

pytest_plugins = ["local_s3"]

ALLOWED = ["https://models.example.com/prod", "s3://bucket/team/", "http://other.example:8000"]


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example.com/prod/a.mar",
        "https://models.example.com/prod/deeper/a.tar.gz",
        "HTTPS://MODELS.example.COM:443/prod/a.mar",
        "https://models.example.com./prod/a.mar",
        "https://models.example.com/%70rod/a.mar",
        "https://models.example.com/prod/a.mar?signature=..%2f",
        "s3://bucket/team/a.mar",
        "http://other.example:8000/a.mar",
    ],
)
def test_an_allowed_address(url):
    """An address that begins like one on the list, however it is spelled."""
    check_url(url, ALLOWED)


NOT_LISTED = "{} is not fetched: no address in MMS_HANDLER_ALLOWED_URLS allows it"
AMBIGUOUS = "{} is not fetched: the address is ambiguous"
NO_ADDRESS = "{} is not an address: expected http://, https:// or s3://, a host and a path"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://models.example.com/prod/a.mar", NOT_LISTED),
        ("https://models.example.com:444/prod/a.mar", NOT_LISTED),
        ("https://models.example.com/production/a.mar", NOT_LISTED),
        ("https://models.example.com/a.mar", NOT_LISTED),
        ("https://models.example.com.evil.example/prod/a.mar", NOT_LISTED),
        ("https://evil.example/models.example.com/prod/a.mar", NOT_LISTED),
        ("https://evil.example/#https://models.example.com/prod/a.mar", NOT_LISTED),
        ("s3://bucket/teams/a.mar", NOT_LISTED),
        ("s3://bucket2/team/a.mar", NOT_LISTED),
        ("http://169.254.169.254/latest/meta-data/a.mar", NOT_LISTED),
        ("https://models.example.com@evil.example/prod/a.mar", AMBIGUOUS),
        ("https://evil.example\\@models.example.com/prod/a.mar", AMBIGUOUS),
        ("https://user:word@models.example.com/prod/a.mar", AMBIGUOUS),
        ("https://models.example.com/prod/../a.mar", AMBIGUOUS),
        ("https://models.example.com/prod/%2e%2E/a.mar", AMBIGUOUS),
        ("https://models.example.com/prod/./a.mar", AMBIGUOUS),
        ("https://models.example.com/prod/..%2fa.mar", AMBIGUOUS),
        ("https://models.example.com/prod/%252e%252e/a.mar", AMBIGUOUS),
        ("https://models.example.com/prod/..;/a.mar", AMBIGUOUS),
        ("https://models.example.com//prod/a.mar", AMBIGUOUS),
        ("https://models.example.com/prod\\..\\a.mar", AMBIGUOUS),
        ("https://models.example.com/prod/a.mar\n", AMBIGUOUS),
        (" https://models.example.com/prod/a.mar", AMBIGUOUS),
        ("https:///prod/a.mar", AMBIGUOUS),
        ("file:///etc/passwd", NO_ADDRESS),
        ("ftp://models.example.com/prod/a.mar", NO_ADDRESS),
        ("//models.example.com/prod/a.mar", NO_ADDRESS),
        ("a.mar", NO_ADDRESS),
        ("", NO_ADDRESS),
        ("https://models.example.com:https/prod/a.mar", NO_ADDRESS),
        ("https://[models.example.com/prod/a.mar", NO_ADDRESS),
    ],
)
def test_an_address_that_is_not_allowed(tmp_path, url, message):
    """No request is sent, and the message names the variable with the list."""
    with pytest.raises(ArchiveError) as caught:
        archive.fetch(url, tmp_path, ALLOWED)
    assert str(caught.value) == message.format(url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_list_nothing_is_allowed(tmp_path):
    with pytest.raises(ArchiveError, match="MMS_HANDLER_ALLOWED_URLS"):
        archive.fetch("https://models.example.com/prod/a.mar", tmp_path, [])


@pytest.mark.parametrize("prefix", ["models.example.com", "https://", "*"])
def test_an_invalid_list(tmp_path, prefix):
    """A mistyped prefix is an error, not a prefix that matches nothing."""
    with pytest.raises(ArchiveError, match="^MMS_HANDLER_ALLOWED_URLS: "):
        archive.fetch("https://models.example.com/prod/a.mar", tmp_path, [prefix])


# --- http ------------------------------------------------------------------------------------


class Site:
    """A web server's answers by path: a body, a redirect, or half of a body."""

    def __init__(self):
        self.bodies, self.redirects, self.broken, self.requests = {}, {}, set(), []


@pytest.fixture
def site(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    served = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            served.requests.append(self.path)
            if path in served.redirects:
                self.send_response(302)
                self.send_header("Location", served.redirects[path])
                self.end_headers()
            elif path in served.bodies:
                self.send_response(200)
                self.send_header("Content-Length", str(len(served.bodies[path])))
                self.end_headers()
                half = len(served.bodies[path]) // 2 if path in served.broken else None
                self.wfile.write(served.bodies[path][:half])
            else:
                self.send_error(404)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def packed(tmp_path):
    """The bytes of an archive."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "words.txt").write_text("one two")
    return archive.pack(tmp_path / "model", tmp_path / "model.mar").read_bytes()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "fetched"
    folder.mkdir()
    return folder


def test_an_archive(site, packed, folder):
    """Its name is the last part of its address."""
    site.bodies["/a/words-2.mar"] = packed
    path = archive.fetch(f"{site.url}/a/words-2.mar?key=1", folder, [f"{site.url}/a"])
    assert path == folder / "words-2.mar"
    assert path.read_bytes() == packed
    assert list(folder.iterdir()) == [path]
    assert site.requests == ["/a/words-2.mar?key=1"]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_a_tar(site, folder, suffix):
    """It keeps its format."""
    site.bodies[f"/model{suffix}"] = b"bytes"
    path = archive.fetch(f"{site.url}/model{suffix}", folder, [site.url])
    assert (path, path.read_bytes()) == (folder / f"model{suffix}", b"bytes")
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize(
    "name", ["", "model", "model/", "model.zip", "..mar", ".mar", "-rf.mar", "a b.mar"]
)
def test_an_invalid_name_of_an_archive(site, folder, name):
    """Nothing is fetched that could not be written under a safe name."""
    with pytest.raises(
        ArchiveError, match=r"is not an archive's address|not a valid model name|is ambiguous"
    ):
        archive.fetch(f"{site.url}/{name}", folder, [site.url])
    assert site.requests == []


def fails(site, folder, path, message, **limits):
    with pytest.raises(ArchiveError) as caught:
        archive.fetch(f"{site.url}{path}", folder, [f"{site.url}/in"], **limits)
    assert str(caught.value) == message.format(site.url)
    assert list(folder.iterdir()) == []


def test_a_redirect_to_an_allowed_address(site, packed, folder):
    """It is followed; the first address gives the name."""
    site.redirects["/in/a.mar"], site.bodies["/in/b.mar"] = "/in/b.mar", packed
    path = archive.fetch(f"{site.url}/in/a.mar", folder, [f"{site.url}/in"])
    assert (path.name, path.read_bytes()) == ("a.mar", packed)


@pytest.mark.parametrize("location", ["/out/a.mar", "/in/../out/a.mar", "file:///etc/passwd"])
def test_a_redirect_to_another_address(site, packed, folder, location):
    """It is not followed."""
    site.redirects["/in/a.mar"], site.bodies["/out/a.mar"] = location, packed
    with pytest.raises(ArchiveError, match="is not fetched|not allowed"):
        archive.fetch(f"{site.url}/in/a.mar", folder, [f"{site.url}/in"])
    assert site.requests == ["/in/a.mar"]
    assert list(folder.iterdir()) == []


def test_a_download_that_is_too_large(site, packed, folder):
    """Nothing of it is left."""
    site.bodies["/in/a.mar"] = packed
    fails(site, folder, "/in/a.mar", "{}/in/a.mar has more than 100 bytes", max_bytes=100)
    archive.fetch(f"{site.url}/in/a.mar", folder, [site.url], max_bytes=len(packed))


def test_a_download_that_breaks_off(site, packed, folder):
    """Nothing of it is left."""
    site.bodies["/in/a.mar"] = packed
    site.broken.add("/in/a.mar")
    rest = len(packed) - len(packed) // 2
    reason = f"IncompleteRead(0 bytes read, {rest} more expected)"
    fails(site, folder, "/in/a.mar", "{}/in/a.mar cannot be downloaded: " + reason)


def test_an_address_without_a_file(site, folder):
    message = "{}/in/a.mar cannot be downloaded: HTTP Error 404: Not Found"
    fails(site, folder, "/in/a.mar", message)


def test_an_archive_that_exists(site, packed, folder):
    """It is left alone, and no request is sent."""
    (folder / "a.mar").write_text("old")
    with pytest.raises(ArchiveError, match=r"a\.mar already exists"):
        archive.fetch(f"{site.url}/a.mar", folder, [site.url])
    assert site.requests == []


# --- s3 --------------------------------------------------------------------------------------

PREFIX = ["s3://bucket/team"]


def test_an_object(bucket, packed, folder):
    """boto3 finds the credentials itself."""
    bucket.put("team/words.mar", packed)
    path = archive.fetch("s3://bucket/team/words.mar", folder, PREFIX)
    assert (path.name, path.read_bytes()) == ("words.mar", packed)
    assert list(folder.iterdir()) == [path]


def test_an_object_of_several_parts(bucket, folder):
    """Each of 8 MB; they are put together again."""
    content = os.urandom(9 << 20)
    bucket.put("team/model.tar.gz", content)
    path = archive.fetch("s3://bucket/team/model.tar.gz", folder, PREFIX)
    assert path.read_bytes() == content
    assert bucket.s3.requests.count("GET /bucket/team/model.tar.gz") == 4  # asked before and after


def test_a_folder_of_objects(bucket, folder):
    """Its name is the last part of its address; other folders that begin like it stay."""
    bucket.put("team/iris/", b"")  # consoles make it
    bucket.put("team/iris/net.params", b"weights")
    bucket.put("team/iris/code/inference.py", b"script")
    bucket.put("team/iris-2/net.params", b"other")
    path = archive.fetch("s3://bucket/team/iris/", folder, PREFIX)
    files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*")}
    assert (path, files) == (
        folder / "iris",
        {"net.params": b"weights", "code/inference.py": b"script"},
    )
    assert list(folder.iterdir()) == [path]


def fails_in_s3(folder, url, message, **limits):
    with pytest.raises(ArchiveError) as caught:
        archive.fetch(url, folder, PREFIX, **limits)
    assert str(caught.value) == f"{url} {message}"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("key", ["../x", "/x", "a/../../x", "a\\x"])
def test_a_folder_with_an_unsafe_name(bucket, folder, tmp_path, key):
    """Nothing is written outside the folder, or at all."""
    bucket.put("team/iris/net.params", b"weights")
    bucket.put(f"team/iris/{key}", b"evil")
    message = f"has no model: the entry {key!r} leads outside the archive's folder"
    fails_in_s3(folder, "s3://bucket/team/iris/", message)
    assert [path.name for path in tmp_path.iterdir()] == ["fetched"]


def test_objects_that_are_too_large(bucket, folder):
    """One, or those of a folder together.  No content is requested."""
    bucket.put("team/iris/a.mar", b"12345")
    bucket.put("team/iris/b", b"678901")
    fails_in_s3(folder, "s3://bucket/team/iris/a.mar", "has more than 4 bytes", max_bytes=4)
    fails_in_s3(folder, "s3://bucket/team/iris/", "has more than 10 bytes", max_bytes=10)
    archive.fetch("s3://bucket/team/iris/", folder, PREFIX, max_bytes=11)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "s3://bucket/team/gone.mar",
            "the bucket has no such object; the address of a folder ends with / (NoSuchKey)",
        ),
        (
            "s3://team/team/gone.mar",
            "there is no bucket of this name; for an S3 that is not AWS's, set AWS_ENDPOINT_URL "
            "(NoSuchBucket)",
        ),
    ],
)
def test_an_object_that_does_not_exist(bucket, folder, monkeypatch, url, reason):
    with pytest.raises(ArchiveError) as caught:
        archive.fetch(url, folder, [url])
    assert str(caught.value) == f"{url} cannot be downloaded: {reason}"
    assert list(folder.iterdir()) == []
    assert len(bucket.s3.requests) == 1


def test_a_folder_that_does_not_exist(bucket, folder):
    fails_in_s3(folder, "s3://bucket/team/gone/", "has no objects")


def test_without_credentials(bucket, folder, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fails_in_s3(
        folder,
        "s3://bucket/team/words.mar",
        "cannot be downloaded: there are no credentials; set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role",
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        *(
            (
                code,
                "S3 refuses the credentials; renew them, or correct AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
            )
            for code in (
                "InvalidAccessKeyId",
                "SignatureDoesNotMatch",
                "ExpiredToken",
                "InvalidToken",
            )
        ),
        (
            "AccessDenied",
            "the credentials do not allow it, or the object does not exist; they need "
            "s3:GetObject, for a folder s3:ListBucket, and for an upload s3:PutObject",
        ),
        (
            "AuthorizationHeaderMalformed",
            "the bucket is in another region; set AWS_DEFAULT_REGION",
        ),
        ("Unheard", "Unheard!"),
    ],
)
def test_a_refusal(bucket, folder, code, reason):
    """S3's code is in the message; its own words are, if there are no better ones."""
    bucket.s3.refusal = code
    fails_in_s3(folder, "s3://bucket/team/words.mar", f"cannot be downloaded: {reason} ({code})")


def test_a_profile_that_does_not_exist(bucket, folder, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "gone")
    reason = "The config profile (gone) could not be found"
    fails_in_s3(folder, "s3://bucket/team/words.mar", f"cannot be downloaded: {reason}")


def test_another_region(bucket, packed, folder):
    """boto3 learns it from S3."""
    bucket.put("team/words.mar", packed)
    bucket.s3.region = "eu-west-1"
    path = archive.fetch("s3://bucket/team/words.mar", folder, PREFIX)
    assert path.read_bytes() == packed
    assert bucket.s3.redirects > 0


def test_nothing_listens(bucket, folder, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fails_in_s3(
        folder,
        "s3://bucket/team/words.mar",
        "cannot be downloaded: S3 cannot be reached; check the network, the region and "
        "AWS_ENDPOINT_URL",
    )


def test_a_connection_that_breaks(bucket, folder):
    """The part is transferred again."""
    content = os.urandom(1 << 20)
    bucket.put("team/words.mar", content)
    bucket.s3.breaks = 3  # the first one only asks for the size
    path = archive.fetch("s3://bucket/team/words.mar", folder, PREFIX)
    assert path.read_bytes() == content


def test_a_connection_that_breaks_again_and_again(bucket, folder):
    bucket.put("team/words.mar", os.urandom(1 << 20))
    bucket.s3.breaks = 1_000
    with pytest.raises(ArchiveError, match="cannot be downloaded: 5[0-9]+ read, but .* 1048576"):
        archive.fetch("s3://bucket/team/words.mar", folder, PREFIX)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("key", ["team/model.mar", "team/model/net.params"])
def test_an_object_that_is_replaced_meanwhile(bucket, folder, key):
    """No mixture of the two is kept."""
    bucket.put(key, b"a" * (9 << 20))

    def replace(method, path):
        if method == "HEAD":  # boto3 asks for the size, then for the parts
            bucket.s3.before = lambda method, path: None
            bucket.put(key, b"b" * (9 << 20))

    bucket.s3.before = replace
    url = "s3://bucket/" + (key if key.endswith(".mar") else "team/model/")
    fails_in_s3(folder, url, "cannot be downloaded: it was replaced meanwhile; try again")


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3:///team/a.mar"])
def test_an_address_without_an_object(bucket, folder, url):
    with pytest.raises(ArchiveError, match=r"is not a valid model name|is not an archive's|ambig"):
        archive.fetch(url, folder, [url])
    assert bucket.s3.requests == []


def test_an_object_without_boto3(folder, monkeypatch):
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ArchiveError, match=r"pip install 'mms_handler\[s3\]'"):
        archive.fetch("s3://bucket/words.mar", folder, ["s3://bucket"])

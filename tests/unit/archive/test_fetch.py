"""fetch: archives from the addresses that are allowed, and from no other."""

from __future__ import annotations

import http.server
import os
import sys
import tarfile
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
def test_what_is_allowed(url):
    """What begins as something on the list does, however it is written."""
    check_url(url, ALLOWED)


NOT_LISTED = "{} is not fetched: no address in MMS_HANDLER_ALLOWED_URLS allows it"
AMBIGUOUS = "{} is not fetched: the address is ambiguous"
NO_ADDRESS = "{} is not an address: expected http://, https:// or s3://, a host and a path"


@pytest.mark.parametrize(
    ("url", "said"),
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
def test_what_is_not(tmp_path, url, said):
    """It is not even asked for, and the variable with the list is named."""
    with pytest.raises(ArchiveError) as caught:
        archive.fetch(url, tmp_path, ALLOWED)
    assert str(caught.value) == said.format(url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_list_nothing_is_allowed(tmp_path):
    with pytest.raises(ArchiveError, match="MMS_HANDLER_ALLOWED_URLS"):
        archive.fetch("https://models.example.com/prod/a.mar", tmp_path, [])


@pytest.mark.parametrize("beginning", ["models.example.com", "https://", "*"])
def test_a_list_that_says_nothing(tmp_path, beginning):
    """A mistyped beginning is an error, not one that nothing begins with."""
    with pytest.raises(ArchiveError, match="^MMS_HANDLER_ALLOWED_URLS: "):
        archive.fetch("https://models.example.com/prod/a.mar", tmp_path, [beginning])


# --- http ------------------------------------------------------------------------------------


class Site:
    """Answers by path: a body, an address to go to, or half of a body."""

    def __init__(self):
        self.bodies, self.elsewhere, self.broken, self.asked = {}, {}, set(), []


@pytest.fixture
def site(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    held = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            held.asked.append(self.path)
            if path in held.elsewhere:
                self.send_response(302)
                self.send_header("Location", held.elsewhere[path])
                self.end_headers()
            elif path in held.bodies:
                self.send_response(200)
                self.send_header("Content-Length", str(len(held.bodies[path])))
                self.end_headers()
                half = len(held.bodies[path]) // 2 if path in held.broken else None
                self.wfile.write(held.bodies[path][:half])
            else:
                self.send_error(404)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        held.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield held
        server.shutdown()
        thread.join()


@pytest.fixture
def packed(tmp_path):
    """The bytes of an archive."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "words.txt").write_text("one two")
    return archive.pack(tmp_path / "model", tmp_path / "made.mar").read_bytes()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "fetched"
    folder.mkdir()
    return folder


def test_an_archive(site, packed, folder):
    """It gets the name that the last part of its address has."""
    site.bodies["/a/words-2.mar"] = packed
    found = archive.fetch(f"{site.url}/a/words-2.mar?key=1", folder, [f"{site.url}/a"])
    assert found == folder / "words-2.mar"
    assert found.read_bytes() == packed
    assert list(folder.iterdir()) == [found]
    assert site.asked == ["/a/words-2.mar?key=1"]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_a_tar_becomes_an_archive(site, tmp_path, folder, suffix):
    """SageMaker's model.tar.gz; it is gone when the .mar is there."""
    (tmp_path / "a.txt").write_text("one")
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as out:
        out.add(tmp_path / "a.txt", "words.txt")
    site.bodies[f"/model{suffix}"] = (tmp_path / "t.tar.gz").read_bytes()
    found = archive.fetch(f"{site.url}/model{suffix}", folder, [site.url])
    assert archive.verify(found).name == "model"
    assert list(folder.iterdir()) == [folder / "model.mar"]


@pytest.mark.parametrize("name", ["", "model", "model.zip", "..mar", ".mar", "-rf.mar", "a b.mar"])
def test_a_name_that_is_no_archives(site, folder, name):
    """What would be written has a safe name, or is not fetched."""
    with pytest.raises(ArchiveError, match=r"names no archive|not a valid model name|is ambiguous"):
        archive.fetch(f"{site.url}/{name}", folder, [site.url])
    assert site.asked == []


def fails(site, folder, path, said, **limits):
    with pytest.raises(ArchiveError) as caught:
        archive.fetch(f"{site.url}{path}", folder, [f"{site.url}/in"], **limits)
    assert str(caught.value) == said.format(site.url)
    assert list(folder.iterdir()) == []


def test_a_redirect_within_the_list(site, packed, folder):
    """It is followed; the name stays the one that was asked for."""
    site.elsewhere["/in/a.mar"], site.bodies["/in/b.mar"] = "/in/b.mar", packed
    found = archive.fetch(f"{site.url}/in/a.mar", folder, [f"{site.url}/in"])
    assert (found.name, found.read_bytes()) == ("a.mar", packed)


@pytest.mark.parametrize("where", ["/out/a.mar", "/in/../out/a.mar", "file:///etc/passwd"])
def test_a_redirect_out_of_the_list(site, packed, folder, where):
    """It is not followed, wherever it leads."""
    site.elsewhere["/in/a.mar"], site.bodies["/out/a.mar"] = where, packed
    with pytest.raises(ArchiveError, match="is not fetched|not allowed"):
        archive.fetch(f"{site.url}/in/a.mar", folder, [f"{site.url}/in"])
    assert site.asked == ["/in/a.mar"]
    assert list(folder.iterdir()) == []


def test_what_is_too_large(site, packed, folder):
    """Nothing stays of it."""
    site.bodies["/in/a.mar"] = packed
    fails(site, folder, "/in/a.mar", "{}/in/a.mar has more than 100 bytes", max_bytes=100)
    archive.fetch(f"{site.url}/in/a.mar", folder, [site.url], max_bytes=len(packed))


def test_what_breaks_off(site, packed, folder):
    """Half an archive is none."""
    site.bodies["/in/a.mar"] = packed
    site.broken.add("/in/a.mar")
    rest = len(packed) - len(packed) // 2
    said = f"IncompleteRead(0 bytes read, {rest} more expected)"
    fails(site, folder, "/in/a.mar", "{}/in/a.mar cannot be downloaded: " + said)


def test_what_is_not_there(site, folder):
    said = "{}/in/a.mar cannot be downloaded: HTTP Error 404: Not Found"
    fails(site, folder, "/in/a.mar", said)


def test_an_unsafe_tar(site, tmp_path, folder):
    """It is refused when it is converted, and nothing stays of it."""
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as out:
        out.addfile(tarfile.TarInfo("../x"))
    site.bodies["/in/m.tar.gz"] = (tmp_path / "t.tar.gz").read_bytes()
    said = "m.tar.gz: the entry '../x' leads outside the archive's folder"
    fails(site, folder, "/in/m.tar.gz", said)


def test_an_archive_that_is_there(site, packed, folder):
    """It is left alone, and the other one is not asked for."""
    (folder / "a.mar").write_text("old")
    with pytest.raises(ArchiveError, match=r"a\.mar already exists"):
        archive.fetch(f"{site.url}/a.mar", folder, [site.url])
    assert site.asked == []


# --- s3 --------------------------------------------------------------------------------------

#: boto3 of an old Python says that it is old.
old = pytest.mark.filterwarnings("ignore")


@old
def test_an_object(bucket, packed, folder):
    """With boto3, and its own way to find credentials."""
    bucket.objects["/bucket/team/words.mar"] = packed
    found = archive.fetch("s3://bucket/team/words.mar", folder, ["s3://bucket/team"])
    assert (found.name, found.read_bytes()) == ("words.mar", packed)


@old
def test_an_object_that_is_too_large(bucket, packed, folder):
    bucket.objects["/bucket/words.mar"] = packed
    with pytest.raises(ArchiveError, match=r"s3://bucket/words\.mar has more than 100 bytes"):
        archive.fetch("s3://bucket/words.mar", folder, ["s3://bucket"], max_bytes=100)
    assert list(folder.iterdir()) == []
    assert len(bucket.requests) == 1


def test_an_object_without_boto3(folder, monkeypatch):
    """What to install is said."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ArchiveError, match=r"pip install 'mms_handler\[s3\]'"):
        archive.fetch("s3://bucket/words.mar", folder, ["s3://bucket"])

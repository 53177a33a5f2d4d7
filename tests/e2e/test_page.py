"""The page of serve --ui, as a program sees it; test_page_in_a_browser has Chromium."""

from __future__ import annotations

import json

import pytest
from running_mms import EXAMPLES, free_ports, wait_for

from mms_handler import client, server
from mms_handler.settings import Settings

TOKEN = "for-inference.0123456789"
BROKEN = "def model_fn(model_dir): raise ValueError('a secret')\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The URL of a server with the page, a token, one model that answers and one that fails."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "broken" / "code").mkdir(parents=True)
    (folder / "broken" / "code" / "inference.py").write_text(BROKEN)
    (folder / "tokens").write_text(f"inference {TOKEN}\n")
    (folder / "tokens").chmod(0o600)
    port, management = free_ports()
    settings = Settings(
        port=port,
        management_port=management,
        workers=1,
        keep_going=True,
        ui=True,
        token_file=str(folder / "tokens"),
    )
    places = [EXAMPLES / "linear", folder / "broken"]
    with server.serve(places, settings, log=lambda line: None) as running:
        yield running.url


def get(url, token=TOKEN, method="GET", **headers):
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return client.call(
        method, url, headers={name.replace("_", "-"): v for name, v in headers.items()}
    )


def test_files(served):
    """They need no token; the browser keeps them, but asks whether they are still the same."""
    answer = get(f"{served}/ui/", token="")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert b'<script type="module" src="page.js">' in answer.body
    tag = answer.headers["etag"]
    again = get(f"{served}/ui/", token="", If_None_Match=tag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    head = get(f"{served}/ui/", token="", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(answer.body)
    script = get(f"{served}/ui/page.js?x=1", token="")
    assert (script.status, script.headers["content-type"]) == (
        200,
        "text/javascript; charset=utf-8",
    )
    assert get(f"{served}/ui", token="").body == answer.body  # by a redirection


@pytest.mark.parametrize(
    "path",
    ["/ui/list.json", "/ui/0", "/ui/../pages/list.json", "/ui/%2e%2e/tokens", "/ui//", "/uix"],
)
def test_only_what_is_listed(served, path):
    """Whatever a path looks like, it is no path of a file."""
    assert get(served + path).status == 404


def test_other_methods(served):
    """OPTIONS / is MMS's description of its API; nothing can be written."""
    assert get(f"{served}/", method="OPTIONS").status == 200
    assert get(f"{served}/ui/", method="POST").status == 404
    assert get(f"{served}/ui/", method="DELETE").status in (404, 405)


def test_models(served):
    """What is said of them needs the token, and has no text of an exception."""
    assert get(f"{served}/ui/models.json", token="").status == 401
    assert get(f"{served}/ui/live.json", token="").status == 401

    def versions():
        document = json.loads(get(f"{served}/ui/models.json").body)
        return {each["name"]: each["versions"] for each in document["models"]}

    wait_for(lambda: versions()["broken"][0]["state"] == "failed", 10)
    (failed,) = versions()["broken"]
    assert failed["reason"] == "model_fn: ValueError (code/inference.py, line 1)"
    (linear,) = versions()["linear"]
    assert (linear["version"], linear["state"], linear["share"]) == ("1", "ready", 100)
    assert linear["inputs"][0]["shape"][1:] == [2]
    assert linear["sample"]["text"] == "[[0, 0]]"


def test_counts(served):
    """They follow the requests within a second."""

    def linear():
        live = json.loads(get(f"{served}/ui/live.json").body)
        (model,) = (each for each in live["models"] if each["model"] == "linear")
        assert len(model["buckets"]) == len(live["bounds"]) + 1
        return model

    before = linear()["statuses"].get("200", 0)
    token = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/csv"}
    answer = client.call("POST", f"{served}/predictions/linear", b"1,2", token)
    assert answer.status == 200
    wait_for(lambda: linear()["statuses"].get("200", 0) == before + 1, 5)
    assert (linear()["alive"], linear()["wanted"], linear()["version"]) == (1, 1, "1")


def test_the_index(served):
    """JSON for programs, with the token; HTML for browsers, which cannot send one by themselves."""
    index = json.loads(get(f"{served}/").body)
    assert index["name"] == "mms_handler"
    assert "/ui/" in index["paths"]
    assert get(f"{served}/", token="").status == 401
    page = get(f"{served}/", token="", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_without_the_page():
    """There is only what GET / says."""
    port, management = free_ports()
    settings = Settings(port=port, management_port=management, workers=1)
    with server.serve([EXAMPLES / "linear"], settings, log=lambda line: None) as running:
        index = json.loads(get(f"{running.url}/", token="").body)
        assert "/ui/" not in index["paths"]
        html = get(f"{running.url}/", token="", Accept="text/html")
        assert html.headers["content-type"] == "text/html; charset=utf-8"
        for path in ("/ui", "/ui/", "/ui/models.json"):
            assert get(running.url + path, token="").status == 404
        assert get(f"{running.url}/", token="", Host="evil.example").status == 403

"""page and page_models: what a server answers about itself and its models."""

from __future__ import annotations

import json

import pytest
from local_mms import serving

from mms_handler import __version__
from mms_handler.errors import ServerError
from mms_handler.manifest import Sample
from mms_handler.server import page, page_models
from mms_handler.server.page_models import PageModels, sample, short_reason

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "


def test_without_the_page():
    """There is what GET / says, for programs and for browsers; both need a token."""
    json_, html = page.resources(ui=False)
    assert (json_.path, json_.kind, json_.open) == ("/", "file", False)
    index = json.loads(json_.body)
    assert (index["name"], index["version"]) == ("mms_handler", __version__)
    assert list(index["paths"]) == [
        "/predictions/NAME",
        "/invocations",
        "/ping",
        "/metrics",
        "/openapi.json",
        "/v2",
        "/execution-parameters",
    ]
    assert (html.path, html.open, html.headers["Content-Type"]) == (
        "/",
        False,
        "text/html; charset=utf-8",
    )
    assert b"page.css" not in html.body
    assert b'<a href="ping"><code>/ping</code></a>' in html.body


def test_the_files_of_the_page():
    """All of the folder, with their types; only what is about models needs a token."""
    listed = {each.path: each for each in page.resources(ui=True)[1:]}
    assert {path for path, each in listed.items() if not each.open} == {
        "/ui/models.json",
        "/ui/live.json",
    }
    names = {file.name for file in page.FILES.iterdir()} - {"index.html"}
    assert {path for path in listed if path.startswith("/ui/")} == {
        "/ui/",
        "/ui/models.json",
        "/ui/live.json",
        *(f"/ui/{name}" for name in names),
    }
    types = {path.rpartition(".")[2]: each.media_type() for path, each in listed.items()}
    assert types["js"] == "text/javascript"
    assert types["css"] == "text/css"
    assert types["svg"] == "image/svg+xml"
    assert listed["/ui/"].media_type() == "text/html"
    assert listed["/ui"].headers == {"Location": "ui/"}
    for each in listed.values():
        if each.kind != "moved":
            assert each.headers["Content-Security-Policy"].startswith(POLICY)
            assert each.headers["X-Content-Type-Options"] == "nosniff"


HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@pytest.mark.parametrize(
    ("path", "kind", "content_type"),
    [
        ("/ui/models.json", "changing", "application/json"),
        ("/ui/live.json", "live", "application/json"),
        ("/ui/", "file", "text/html; charset=utf-8"),
        ("/ui/page.js", "file", "text/javascript; charset=utf-8"),
        ("/ui/page.css", "file", "text/css; charset=utf-8"),
        ("/ui/icon.svg", "file", "image/svg+xml"),
        ("/ui", "moved", None),
    ],
)
def test_the_kinds_and_headers_of_resources(path, kind, content_type):
    """Java knows the kinds by name."""
    (found,) = (each for each in page.resources(ui=True) if each.path == path)
    assert (found.kind, bool(found.body)) == (kind, kind == "file")
    typed = {"Content-Type": content_type, **HEADERS}
    assert found.headers == (typed if content_type else {"Location": "ui/"})
    assert found.media_type() == (content_type or "-").partition(";")[0]


@pytest.mark.parametrize("ui", [True, False])
def test_the_index_for_programs_and_for_browsers(ui):
    """Both are at one path, with a link to each path that a browser can open."""
    program, browser = page.resources(ui=ui)[:2]
    assert [(each.path, each.kind, each.open) for each in (program, browser)] == [
        ("/", "file", False),
        ("/", "file", ui),
    ]
    assert (program.headers["Content-Type"], program.body[-2:]) == ("application/json", b"}\n")
    paths = json.loads(program.body)["paths"]
    assert ("/ui/" in paths) is ui
    linked = {*paths} - {"/predictions/NAME", "/invocations"}
    for path in paths:
        link = f'<a href="{path[1:]}"><code>{path}</code></a>'
        assert (link.encode() in browser.body) is (path in linked)
        assert f"<code>{path}</code>".encode() in browser.body
    assert (b'href="ui/page.css"' in browser.body) is ui


def test_nothing_comes_from_elsewhere():
    """The page has no script or style of its own in it, and names no other site."""
    html = (page.FILES / "index.html").read_text()
    assert "style=" not in html
    assert " on" + "click=" not in html
    for file in page.FILES.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file
        assert "https://" not in text, file


def test_in_dev():
    """Its paths are fewer."""
    index = json.loads(page.resources(ui=True, dev=True)[0].body)
    described = ["/openapi.json", "/v2"]
    assert list(index["paths"]) == [
        *("/predictions/NAME", "/invocations", "/ping"), *described, "/ui/"
    ]  # fmt: skip


def test_written(tmp_path):
    """Each line of the list names a file beside it, but for what is made anew."""
    listed = page.resources(ui=True)
    table = page.write(tmp_path, listed)
    assert table == tmp_path / "pages" / "list.json"
    lines = json.loads(table.read_text())
    assert len(lines) == len(listed)
    for line, resource in zip(lines, listed):
        assert (line["path"], line["open"]) == (resource.path, resource.open)
        assert line["headers"] == resource.headers
        if line["kind"] == "file":
            assert (table.parent / line["file"]).read_bytes() == resource.body
    files = {line["path"]: line["file"] for line in lines if line["kind"] == "changing"}
    assert files == {"/ui/models.json": "models.json"}


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        (
            "iris cannot be served: model_fn: ValueError: a secret: x (code/inference.py, line 2)",
            "model_fn: ValueError (code/inference.py, line 2)",
        ),
        ("iris cannot be served: script: my.Error: two\nlines (a) b", "script: my.Error"),
        ("iris cannot be served: KeyError: 'x' (a.py, line 1)", "KeyError (a.py, line 1)"),
        ("iris cannot be served: its processes ended", page_models._UNKNOWN),
        (
            "the workers of iris died more than 5 times in 60 s: model_fn: E: x",
            "its workers died more than 5 times in 60 s",
        ),
        ("no memory for iris", page_models._UNKNOWN),
    ],
)
def test_short_reasons(reason, short):
    """Without the text of the exception."""
    assert short_reason(reason) == short


def test_samples():
    """Text as text, other bytes in base64, and of a large one the size."""
    entry = Sample("sample.csv", "text/csv", "*/*")
    described = {"contentType": "text/csv", "accept": "*/*"}
    assert sample(entry, "ä".encode()) == {**described, "bytes": 2, "text": "ä"}
    assert sample(entry, b"\xff") == {**described, "bytes": 1, "base64": "/w=="}
    assert sample(entry, b"x" * 20_000)["text"] == "x" * 20_000
    assert sample(entry, b"x" * 20_001) == {**described, "bytes": 20_001}


def test_facts_of_a_folder(tmp_path):
    """What is missing or wrong is left out."""
    assert page_models.facts(tmp_path) == {}
    (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [1, 4]}]')
    assert page_models.facts(tmp_path) == {"inputs": [{"name": "data", "shape": [1, 4]}]}
    tensor = {"name": "data", "shape": ["N", 4, "any"], "type": "FP32"}
    (tmp_path / "MAR-INF").mkdir()
    text = json.dumps({"inputs": [tensor], "outputs": []})
    (tmp_path / "MAR-INF" / "schema.json").write_text(text)
    assert page_models.facts(tmp_path) == {"inputs": [{"name": "data", "shape": ["any", 4, "any"]}]}
    body = {"name": "input", "shape": ["N"], "type": "BYTES"}
    text = json.dumps({"inputs": [body], "outputs": []})
    (tmp_path / "MAR-INF" / "schema.json").write_text(text)
    assert page_models.facts(tmp_path) == {"inputs": [{"name": "data", "shape": [1, 4]}]}
    (tmp_path / "MAR-INF" / "schema.json").unlink()
    (tmp_path / "model-shapes.json").write_text('[{"name": "data"}]')
    assert page_models.facts(tmp_path) == {}


@pytest.fixture
def shown(versions, tmp_path):
    """Versions of models, and what the page says of them."""
    models = versions()
    path = tmp_path / "models.json"
    page_of = PageModels(models, models._store, path)

    def shown():
        page_of.write()
        document = json.loads(path.read_text())
        assert document["version"] == __version__
        return {each["name"]: each["versions"] for each in document["models"]}

    shown.models, shown.path = models, path
    return shown


def test_models(shown, source):
    """Each version of each model, with its state and share."""
    assert shown() == {}
    shown.models.register(source("one"), serving())
    with shown.models.reserved("one", "u", replace=True):
        shown.models.load(source("one"), serving(), share=25)
    shown.models.register(source("two"), serving(0))
    document = shown()
    assert [(v["version"], v["state"], v["share"]) for v in document["one"]] == [
        ("1", "ready", 75),
        ("2", "ready", 25),
    ]
    assert [(v["version"], v["state"]) for v in document["two"]] == [("1", "idle")]


def test_the_file_is_written_when_something_changes(shown, source):
    """And only then."""
    shown()
    before = shown.path.stat().st_mtime_ns, shown.path.stat().st_ino
    shown()
    assert (shown.path.stat().st_mtime_ns, shown.path.stat().st_ino) == before
    shown.models.register(source("one"), serving())
    shown()
    assert shown.path.stat().st_ino != before[1]


def test_a_model_that_cannot_be_loaded(shown, source, mms):
    """It is there with its reason, until it is loaded."""
    mms.statuses["POST"] = 500
    mms.message = "model_fn: ValueError: a secret (code/inference.py, line 1)"
    with pytest.raises(ServerError):
        shown.models.register(source("one"), serving())
    reason = "model_fn: ValueError (code/inference.py, line 1)"
    assert shown() == {"one": [{"version": "1", "state": "failed", "reason": reason}]}
    mms.statuses.clear()
    shown.models.register(source("one"), serving())
    assert [each["state"] for each in shown()["one"]] == ["ready"]


def test_few_failures_are_remembered(shown):
    """The latest twenty."""
    for number in range(30):
        shown.models.failures.note(f"m{number:02}", "", "x")
    assert list(shown()) == [f"m{number:02}" for number in range(10, 30)]

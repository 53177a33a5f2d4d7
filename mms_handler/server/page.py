"""What a server answers about itself: GET /, and the files of the page for people below /ui/.

The gate and the server of ``serve --dev`` have the same list.  Each path in it has one file, so
what a client asks for is never a path of the file system.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from mms_handler import __version__, media

#: The files of the page, with their types.
FILES = Path(__file__).parent.parent / "ui"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: Where the page asks which models there are, and what they have answered.
MODELS, LIVE = "/ui/models.json", "/ui/live.json"

#: In a server's folder, what MODELS is answered from.
MODELS_FILE = "pages/models.json"

#: Nothing from elsewhere, nothing inline, and no frame of another site around it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_PATHS = {
    "/predictions/NAME": "POST: a prediction of a model; /predictions/NAME/VERSION: of a version",
    "/invocations": "POST: a prediction of the only model, or of ?model_name=NAME",
    "/ping": "GET: whether requests can be answered",
    "/metrics": "GET: counts and times, for Prometheus",
    "/openapi.json": "GET: all of this in OpenAPI 3.1, with what each model takes",
    "/v2": "GET: the Open Inference Protocol, with /v2/models/NAME/infer",
    "/execution-parameters": "GET: how many requests batch transform may send at once",
}
_OF_DEV = ("/predictions/NAME", "/invocations", "/ping", "/openapi.json", "/v2")
_UI = {"/ui/": "GET: a page on which models can be tried"}

#: Kinds of resources: a file; a file that is replaced now and then; the counts; only elsewhere.
FILE, CHANGING, COUNTS, MOVED = "file", "changing", "live", "moved"


class Resource(NamedTuple):
    """What is answered for one path.

    Fields:
        path: of the request.
        kind: FILE, CHANGING, COUNTS or MOVED.
        headers: of the reply.
        body: of a FILE.
        open: whether it needs no token: it is the same for everyone.
    """

    path: str
    kind: str
    headers: Mapping[str, str]
    body: bytes = b""
    open: bool = False

    def media_type(self) -> str:
        """Without parameters; "-" if it has none."""
        return self.headers.get("Content-Type", "-").partition(";")[0]


def resources(*, ui: bool, dev: bool = False) -> list[Resource]:
    """All that a server answers itself; of two with one path, the first unless Accept asks.

    Args:
        ui: whether there is the page for people.
        dev: whether it is the server of ``serve --dev``.
    """
    paths = {path: text for path, text in _PATHS.items() if not dev or path in _OF_DEV}
    paths.update(_UI if ui else {})
    index = {"name": "mms_handler", "version": __version__, "paths": paths}
    listed = [
        Resource("/", FILE, _typed(media.JSON), _json(index)),
        Resource("/", FILE, _typed(_TYPES[".html"]), _index_page(paths, ui), open=ui),
    ]
    if not ui:
        return listed
    listed += [
        Resource("/ui", MOVED, {"Location": "ui/"}, open=True),
        Resource(MODELS, CHANGING, _typed(media.JSON)),
        Resource(LIVE, COUNTS, _typed(media.JSON)),
    ]
    for file in sorted(FILES.iterdir()):
        if file.suffix in _TYPES:
            path = "/ui/" if file.name == "index.html" else f"/ui/{file.name}"
            kind = _typed(_TYPES[file.suffix])
            listed.append(Resource(path, FILE, kind, file.read_bytes(), open=True))
    return listed


def _typed(content_type: str) -> dict[str, str]:
    return {"Content-Type": content_type, **_HEADERS}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _index_page(paths: Mapping[str, str], ui: bool) -> bytes:
    """The list of paths for a browser; it looks like the page if there is one."""
    style = '<link rel="stylesheet" href="ui/page.css">\n' if ui else ""
    rows = "\n".join(f"<dt>{_linked(path)}</dt><dd>{text}</dd>" for path, text in paths.items())
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>mms_handler</title>
{style}<main class="index">
<h1>mms_handler {__version__}</h1>
<p>This server answers requests for predictions.</p>
<dl>
{rows}
</dl>
</main>
</html>
""".encode()


def _linked(path: str) -> str:
    text = f"<code>{html.escape(path)}</code>"
    linked = "NAME" not in path and path != "/invocations"
    return f'<a href="{path[1:]}">{text}</a>' if linked else text


def write(folder: Path, listed: Sequence[Resource]) -> Path:
    """Write what the gate needs into a server's folder; returns the list of it.

    java/mms_handler/Pages.java reads it.
    """
    path = folder / MODELS_FILE
    path.parent.mkdir()
    lines = []
    for number, each in enumerate(listed):
        file = path.name if each.kind == CHANGING else f"{number}"
        if each.kind == FILE:
            (path.parent / file).write_bytes(each.body)
        line = {"path": each.path, "kind": each.kind, "file": file, "open": each.open}
        lines.append({**line, "headers": each.headers})
    table = path.with_name("list.json")
    table.write_bytes(_json(lines))
    return table

"""The commands models: what they send, what they print, and what they say to do.

A small server stands for the real one here; tests/e2e/test_models_commands.py has that.
"""

from __future__ import annotations

import http.server
import json
import threading

import pytest
from click.testing import CliRunner
from running_mms import free_ports

from mms_handler import Management
from mms_handler.cli import group
from mms_handler.errors import BadInput, NoSuchModel, ServerError

ADDED = {
    "batchSize": 32,
    "maxBatchDelay": 1,
    "minWorkers": 2,
    "maxWorkers": 2,
    "loadedAtStartup": False,
}


def version(name, state, share, workers=2, **more):
    url = f"/srv/model_store/iris-{name}.mar"
    return {
        "modelVersion": name,
        "state": state,
        "share": share,
        "modelUrl": url,
        "minWorkers": workers,
        **more,
    }


def worker(number, status="READY"):
    return {
        "id": f"9000-0000000{number}",
        "startTime": "2026-11-27T02:08:52.961Z",
        "status": status,
        "gpu": False,
        "memoryUsage": 239_160_000 + number,
    }


IRIS = {
    "modelName": "iris",
    "modelVersion": "2",
    "modelUrl": "/srv/model_store/iris-2.mar",
    **ADDED,
    "versions": [version("1", "kept", 0), version("2", "served", 100)],
    "workers": [worker(1), worker(2)],
}


class Server:
    """Answers with ``replies``, the last one again and again; ``requests`` has what came."""

    def __init__(self):
        self.replies, self.requests, self.hold = [(200, IRIS)], [], threading.Event()
        self.hold.set()

    def next(self):
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@pytest.fixture
def server(monkeypatch):
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization")
            state.requests.append((self.command, self.path, json.loads(body or "null"), token))
            state.hold.wait(20)
            status, fields = state.next()
            if status is None:
                self.close_connection = True
                return
            data = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_any

        def log_message(self, *args):
            pass

    address = ("127.0.0.1", free_ports()[0])
    with http.server.ThreadingHTTPServer(address, Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        state.port = http_server.server_port
        monkeypatch.setenv("MMS_HANDLER_MANAGEMENT_PORT", str(state.port))
        yield state
        state.hold.set()
        http_server.shutdown()
        thread.join()


def run(*words):
    result = CliRunner().invoke(group, ["models", *words])
    return result.exit_code, result.output


def fails(*words):
    """The error of a command that fails; a known error is one line."""
    result = CliRunner().invoke(group, ["models", *words])
    assert result.exit_code == 1, result.output
    if result.exception and not isinstance(result.exception, SystemExit):
        return str(result.exception)
    (line,) = result.output.splitlines()
    return line[len("error: ") :]


# --- what is sent -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["describe", "iris"], ("GET", "/models/iris", None)),
        (["describe", "iris/1 b"], ("GET", "/models/iris/1%20b", None)),
        (["rollback", "iris"], ("POST", "/models/iris/rollback", {})),
        (
            ["scale", "iris", "3"],
            ("PUT", "/models/iris?min_worker=3&max_worker=3", None),
        ),
        (
            ["scale", "iris/1", "3"],
            ("PUT", "/models/iris/1?min_worker=3&max_worker=3", None),
        ),
        (["unload", "iris"], ("DELETE", "/models/iris", None)),
        (["unload", "iris/1"], ("DELETE", "/models/iris/1", None)),
        (
            ["load", "flowers/iris.mar"],
            ("POST", "/models", {"url": "flowers/iris.mar", "model_name": "iris"}),
        ),
        (
            ["load", "s3://b/iris/", "--name", "n", "--version", "v", "--workers", "2"],
            (
                "POST",
                "/models",
                {"url": "s3://b/iris/", "model_name": "n", "version": "v", "initial_workers": 2},
            ),
        ),
        (
            ["swap", "iris", "b.mar"],
            ("POST", "/models", {"url": "b.mar", "model_name": "iris", "replace": True}),
        ),
        (
            ["swap", "iris", "b.mar", "--share", "0", "--version", "v"],
            (
                "POST",
                "/models",
                {
                    "url": "b.mar",
                    "model_name": "iris",
                    "version": "v",
                    "share": 0,
                    "replace": True,
                },
            ),
        ),
        (["swap", "iris", "--version", "3"], ("PUT", "/models/iris/3/set-default", None)),
        (
            ["swap", "iris", "--version", "3", "--share", "20"],
            ("PUT", "/models/iris/3?share=20", None),
        ),
    ],
)
def test_what_a_command_sends(server, tmp_path, monkeypatch, words, request_):
    monkeypatch.chdir(tmp_path)
    assert run(*words)[0] == 0
    assert server.requests[0] == (*request_, None)


def test_a_path_of_this_machine(server, tmp_path, monkeypatch):
    """It is sent in full, because the server has another working directory; it names the model."""
    (tmp_path / "flowers" / "code").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert run("load", "flowers")[0] == 0
    assert server.requests[0][2] == {"url": str(tmp_path / "flowers"), "model_name": "flowers"}


def test_a_token(server, tmp_path, monkeypatch):
    (tmp_path / "tokens").write_text("management 0123456789abcdef0123456789abcdef\n")
    run("describe", "iris", "--token-file", str(tmp_path / "tokens"))
    monkeypatch.setenv("MMS_HANDLER_TOKEN_FILE", str(tmp_path / "tokens"))
    run("describe", "iris")
    token = "Bearer 0123456789abcdef0123456789abcdef"
    assert [request[3] for request in server.requests] == [token, token]


# --- what is printed --------------------------------------------------------------------------


def test_a_list(server):
    """All pages of it."""
    first = {"modelName": "digits", "modelVersion": "1", "modelUrl": "digits.mar"}
    second = {"modelName": "iris", "modelVersion": "2026-11", "modelUrl": "s3://b/iris.tar.gz"}
    server.replies = [
        (200, {"models": [first], "nextPageToken": "1"}),
        (200, {"models": [second]}),
    ]
    code, text = run("list")
    assert (code, text) == (
        0,
        "MODEL   VERSION  FROM\ndigits  1        digits.mar\niris    2026-11  s3://b/iris.tar.gz\n",
    )
    assert [path for _, path, _, _ in server.requests] == ["/models", "/models?next_page_token=1"]
    server.replies = [(200, {"models": []})]
    assert run("list") == (0, "no models\n")
    assert run("list", "--json") == (0, "[]\n")


def test_a_description(server):
    assert run("describe", "iris") == (
        0,
        """\
model   iris, version 2
from    /srv/model_store/iris-2.mar
loaded  later

VERSION  STATE   SHARE  WORKERS  FROM
2        served  100 %        2  /srv/model_store/iris-2.mar
1        kept      0 %        2  /srv/model_store/iris-1.mar

WORKER         STATUS  MEMORY  STARTED
9000-00000001  READY   239 MB  2026-11-27 02:08:52 UTC
9000-00000002  READY   239 MB  2026-11-27 02:08:52 UTC
""",
    )
    code, text = run("describe", "iris", "--json")
    assert (code, json.loads(text)) == (0, IRIS)


def test_a_model_that_is_loading(server):
    server.replies = [
        (
            200,
            {
                "modelName": "iris",
                "modelUrl": "iris.mar",
                "status": "LOADING",
                "phase": "model_fn",
                "phaseSeconds": 8,
                "workers": [],
            },
        )
    ]
    assert run("describe", "iris") == (
        0,
        "model    iris\nfrom     iris.mar\nloading  model_fn for 8 s\n",
    )


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        (
            [version("2", "served", 100), version("1", "kept", 0)],
            "iris: version 2 is served by 2 workers; version 1 is kept\n",
        ),
        (
            [version("2", "served", 90, workers=1), version("3", "shared", 10)],
            "iris: version 2 is served by 1 worker, with 90 % of the requests; "
            "version 3 gets 10 % of the requests\n",
        ),
    ],
)
def test_a_change(server, versions, text):
    """One line says what the model's versions do now."""
    server.replies = [(200, {**IRIS, "versions": versions})]
    for words in (["swap", "iris", "b.mar"], ["rollback", "iris"], ["scale", "iris", "2"]):
        assert run(*words) == (0, text)
    code, printed = run("swap", "iris", "b.mar", "--json")
    assert (code, json.loads(printed)["versions"]) == (0, versions)


def test_an_unloading(server):
    assert run("unload", "iris") == (0, "iris is unloaded\n")
    assert run("unload", "iris/1") == (0, "version 1 of iris is unloaded\n")
    assert json.loads(run("unload", "iris/1", "--json")[1]) == {
        "modelName": "iris",
        "modelVersion": "1",
    }


# --- what fails -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "advice"),
    [
        (["describe", "iris"], 401, "; name the server's token file with --token-file"),
        (["describe", "iris"], 404, "; mms-handler models list names the models"),
        (["rollback", "iris"], 409, ""),
        (["list"], 503, "; try again later"),
        (["scale", "iris", "9"], 507, "; mms-handler models unload NAME makes room"),
        (["scale", "iris", "9"], 500, ""),
        (
            ["load", "iris.mar"],
            404,
            "; a server takes models from its --model-store, and from addresses of its "
            "--allowed-urls",
        ),
        (["load", "iris.mar", "--version", "1"], 409, ""),
        (
            ["swap", "iris", "iris.mar"],
            404,
            "; a server takes models from its --model-store, and from addresses of its "
            "--allowed-urls",
        ),
        (["swap", "iris", "--version", "9"], 404, "; mms-handler models list names the models"),
    ],
)
def test_a_refusal(server, words, status, advice):
    """The server's reason, and what to do."""
    server.replies = [(status, {"code": status, "type": "X", "message": "because"})]
    assert fails(*words) == f"because{advice}"


def test_a_name_that_is_taken(server):
    """Only this conflict is one that a swap ends."""
    taken = {"code": 409, "type": "NameTaken", "message": "Model iris is already registered."}
    server.replies = [(409, taken)]
    assert fails("load", "iris.mar") == (
        "Model iris is already registered; mms-handler models swap NAME PATH serves another version"
    )


def test_a_swap_of_nothing(server):
    code, text = run("swap", "iris")
    assert code == 2
    assert "swap needs PATH, or --version with a version that is loaded" in text
    with pytest.raises(BadInput, match="a swap needs the new version's path, or"):
        Management().swap("iris")


def test_nothing_listens(monkeypatch):
    assert fails("list", "--management-port", "1") == (
        "no answer from http://127.0.0.1:1/models: Connection refused; start a server (mms-handler "
        "serve), or name its port with --management-port"
    )


def test_no_answer_in_time(server):
    server.hold.clear()
    text = fails("list", "--timeout-s", "0.1")
    assert text == (
        f"no answer from http://127.0.0.1:{server.port}/models: timed out; --timeout-s waits longer"
    )


def test_a_server_that_ends(server):
    server.replies = [(None, b"")]
    assert fails("list").endswith("; the server has ended; its log says why")


def test_a_port_of_something_else(server):
    """For example that of another program."""
    server.replies = [(200, b"<html>")]
    url = f"http://127.0.0.1:{server.port}/models"
    assert fails("list") == f"{url} is not the management API of a server"


def test_the_errors_of_the_python_api(server):
    server.replies = [(404, {"message": "Model not found: iris"})]
    with pytest.raises(NoSuchModel, match="^Model not found: iris$"):
        Management().describe("iris")
    server.replies = [(500, b"")]
    with pytest.raises(ServerError, match="^the server answered 500$"):
        Management().describe("iris")

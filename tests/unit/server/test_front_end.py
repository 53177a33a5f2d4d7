"""front_end: how Java is started and asked, with small programs in its place.

The end-to-end tests have the real one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mms_handler.errors import ServerError
from mms_handler.server import front_end, java, sizing
from mms_handler.server.access import Tokens
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.machine import Machine
from mms_handler.server.process_log import ProcessLog
from mms_handler.settings import Settings

MB = 2**20
TOKEN = "0123456789abcdef0123456789abcdef"
PLAN = sizing.plan(Machine(2, 4096 * MB), Settings(), [1000])


# --- a front end -----------------------------------------------------------------------------


@pytest.fixture
def replies():
    """The front end's answers by path, and its status; what it was asked is in "asked"."""
    replies = {"status": 200, "asked": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            replies["asked"].append(self.path)
            body = replies.get(self.path, "").encode()
            self.send_response(replies["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        replies["url"] = f"http://127.0.0.1:{server.server_port}"
        yield replies
        server.shutdown()


@pytest.fixture
def front(tmp_path, replies):
    process = subprocess.Popen(["sleep", "60"])
    yield FrontEnd(
        tmp_path, process, ProcessLog(lambda record: None), replies["url"], f"{replies['url']}/m"
    )
    process.kill()
    process.wait()


def test_it_is_waited_for(front):
    results = iter([False, False, True])
    front.wait_until(lambda: next(results), 60)
    assert next(results, None) is None


def test_it_is_not_waited_for_too_long(front):
    with pytest.raises(ServerError, match=r"^MMS was not ready within 0\.1 s; see its output abov"):
        front.wait_until(lambda: False, 0.1)


def test_a_reason_that_is_read_late(front):
    """What a process printed at its end may still be in the pipe when it has ended."""
    front.process.kill()
    front.process.wait()
    timer = threading.Timer(0.2, front.log._take, ["Caused by: a port"])
    timer.start()
    with pytest.raises(ServerError, match="^MMS ended before it was ready: a port$"):
        front.wait_until(lambda: False, 60)
    timer.join()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"ERROR no\nCaused by: a port \n", "a port"),
        (b"ERROR  no\n", "no"),
        (b"the gate cannot be used: in use\n", "in use"),
        (b"Error: could not find\n", "could not find"),
        (b"Error:\nnothing\n", "see its output above"),
    ],
)
def test_why_it_ended(front, followed, text, reason):
    """By the line that says most; not after it is ready."""
    followed(text, front.log)
    front.process.kill()
    front.process.wait()
    front.wait_until(lambda: True, 60)
    with pytest.raises(ServerError, match=f"^MMS ended before it was ready: {reason}$"):
        front.wait_until(lambda: False, 60)


def test_whether_it_listens(front, replies):
    assert front.listens()
    assert replies["asked"] == ["/m/models"]
    replies["status"] = 503
    assert not front.listens()
    assert not front._replace(management_url="http://127.0.0.1:1").listens()


def test_a_table_of_routes(front, replies):
    """In one request, or in as many as MMS's limit of 4,096 bytes for a request line takes."""
    front.set_routes(["", "iris 2 iris~2 READY 100"])
    assert replies["asked"] == ["/m/routes?line=&line=iris+2+iris~2+READY+100"]
    del replies["asked"][:]
    table = ["iris", *(f"{'n' * 200} {number} x READY 100" for number in range(50))]
    front.set_routes(table)
    queries = [parse_qs(urlsplit(path).query) for path in replies["asked"]]
    assert [line for query in queries for line in query["line"]] == table
    assert [("append" in query, "more" in query) for query in queries] == [
        *((False, True), (True, True), (True, False))
    ]
    assert all(len(f"POST {path} HTTP/1.1") < 4_096 for path in replies["asked"])
    replies["status"] = 500
    with pytest.raises(ServerError, match="^the gate does not take its routes: "):
        front.set_routes(["iris"])


def test_requests_in_flight(front, replies):
    """Of a model that has some, has none, or is unknown."""
    replies["/m/routes"] = "iris 0\niris~2 13\n"
    assert [front.in_flight(name) for name in ("iris", "iris~2", "rose")] == [0, 13, 0]


def test_how_a_listener_ended(front, replies):
    """Nothing is known of one that runs, or while Java does not answer well."""
    path = "/m/routes?listener=iris~2"
    for text, value in (("137", 137), ("0", 0), ("", None)):
        replies[path] = text
        assert front.listener_exit("iris~2") == value
    replies.update({path: "137", "status": 503})
    assert front.listener_exit("iris~2") is None
    assert front._replace(management_url="http://127.0.0.1:1").listener_exit("iris~2") is None


def test_the_gate_is_opened(front, replies, tmp_path):
    """By a file; /ping says when all models are there."""
    front.open_gate(60)
    assert (tmp_path / "ready").exists()
    assert replies["asked"] == ["/ping"]
    replies["status"] = 503
    with pytest.raises(ServerError, match="^MMS was not ready within 0 s"):
        front.open_gate(0)


METRICS = """\
# TYPE mms_handler_worker_restarts_total counter
mms_handler_worker_restarts_total{model="iris",version="2"} 3
mms_handler_worker_restarts_total{model="",version=""} 12
mms_handler_worker_restarts_total{model="a",version="1"} b
mms_handler_requests_total{model="iris"} 7
"""


def test_how_often_workers_were_started_again(front, replies):
    """Nothing is known while Java does not answer well."""
    replies["/metrics?name[]=mms_handler_worker_restarts_total"] = METRICS
    assert front.worker_restarts() == {("iris", "2"): 3, ("", ""): 12}
    replies["status"] = 503
    assert front.worker_restarts() == {}
    assert front._replace(inference_url="http://127.0.0.1:1").worker_restarts() == {}


# --- starting one ----------------------------------------------------------------------------

JAVA = """
import json, os, pathlib, signal, socket, sys
print("starting", flush=True)
folder = pathlib.Path(sys.argv[1])
variables = {name: os.environ.get(name) for name in sys.argv[2:]}
(folder.parent / "seen.json").write_text(json.dumps({
    "variables": variables,
    "path": os.environ["PATH"],
    "cwd": os.getcwd(),
    "files": sorted(path.name for path in folder.iterdir()),
    "config": (folder / "config.properties").read_text(),
}))
server = socket.socket(socket.AF_UNIX)
server.bind(str(folder / "management"))
server.listen()
signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), sys.exit(0)))
while True:
    connection = server.accept()[0]
    connection.recv(9999)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    connection.close()
"""

VARIABLES = (
    *("TEMP", "TMPDIR", "PYTHONUNBUFFERED", "MMS_HANDLER_TOKEN_FILE", "JAVA_HOME"),
    "MMS_HANDLER_SUPERVISED",
)


@pytest.fixture
def temporary(monkeypatch):
    """The folder for temporary files; pytest's own are too long for the names of sockets."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


@pytest.fixture
def commands(temporary, monkeypatch):
    """Run JAVA in Java's place; the options that Java would have got."""
    options = []

    def command(env, folder, more, jars):
        options.append(more)
        return [sys.executable, "-S", "-c", JAVA, str(folder), *VARIABLES]

    monkeypatch.setattr(java, "command", command)
    monkeypatch.setattr(java, "java_variables", lambda env: {"JAVA_HOME": "/a/java"})
    return options


def test_started(commands, temporary):
    """In a private folder, from which no token can be read by a worker; ended in peace."""
    records = []
    settings = Settings(token_file=str(temporary / "tokens"), drain_s=20, port=1234)
    log = ProcessLog(records.append)
    with front_end.started(settings, Tokens(TOKEN), PLAN, log, 60, ["iris"]) as front:
        folder = front.folder
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "tokens").stat().st_mode & 0o777 == 0o600
        assert (folder / "tokens").read_text() == f"inference {TOKEN}\n"
        assert front.inference_url == f"unix:{folder}/tmp/gate:"
        assert front.management_url == f"unix:{folder}/management:"
        assert front.listens()
        assert front.log.text_after("starting", within_s=0) is None
        process = front.process
    assert (process.returncode, folder.exists()) == (0, False)
    assert [record["message"] for record in records] == ["starting", "drained"]
    seen = json.loads((temporary / "seen.json").read_text())
    assert seen["variables"] == {
        "TEMP": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "MMS_HANDLER_TOKEN_FILE": None,
        "JAVA_HOME": "/a/java",
        "MMS_HANDLER_SUPERVISED": "true",
    }
    assert seen["path"].split(":")[:2] == [f"{folder}/bin", os.path.dirname(sys.executable)]
    assert seen["cwd"] == str(folder)
    assert seen["files"] == ["config.properties", "pages", "tmp", "tokens"]
    config = seen["config"]
    assert config.endswith(
        f"inference_address=unix:{folder}/inference\nmanagement_address=unix:{folder}/management\n"
    )
    assert f"model_store={folder}/store\n" in config
    (options,) = commands
    planned = sizing.java_options(PLAN)
    assert options[: len(planned)] == planned
    assert "-Dmms_handler.gate=127.0.0.1:1234" in options
    assert "-Dmms_handler.startup_models=iris" in options
    assert f"-Dmms_handler.pages={folder}/pages/list.json" in options


def test_a_folder_whose_path_is_too_long_for_sockets(commands, temporary, monkeypatch):
    """Java is not started: it would say something else, later."""
    folder = temporary / ("t" * 90)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    started = front_end.started(Settings(), Tokens(), PLAN, ProcessLog(lambda record: None), 60)
    with pytest.raises(ServerError, match="too long for sockets; set TMPDIR"), started:
        pytest.fail("it did start")
    assert commands == []


def test_a_java_that_does_not_start(commands, monkeypatch, temporary):
    """Nothing is left; the reason is what it printed."""
    failing = [sys.executable, "-S", "-c", "print('Error: no main'); raise SystemExit(1)"]
    monkeypatch.setattr(java, "command", lambda *arguments: failing)
    started = front_end.started(Settings(), Tokens(), PLAN, ProcessLog(lambda record: None), 60)
    with pytest.raises(ServerError, match="^MMS ended before it was ready: no main$"), started:
        pytest.fail("it did start")
    assert list(temporary.iterdir()) == []


def test_a_java_that_ends_later():
    """It is waited for."""
    command = ["/bin/sh", "-c", "trap 'sleep 0.3; exit 5' TERM; echo; while :; do sleep 0.05; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        front_end._drain(process, 20)
        assert process.returncode == 5


def test_a_java_that_does_not_end(tmp_path):
    """It may take as long as requests may, and three seconds more; the group is killed then."""
    ignoring = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-S", "-c", ignoring], stdout=subprocess.PIPE)
    process.stdout.readline()
    front_end._drain(process, -3)
    assert process.poll() is None
    process.kill()
    front_end._drain(process, 0)
    assert process.returncode == -signal.SIGKILL
    process.stdout.close()


def test_java_is_in_a_group_of_its_own(commands):
    """The models' processes are found by it."""
    with front_end.started(
        Settings(), Tokens(), PLAN, ProcessLog(lambda record: None), 60
    ) as front:
        assert (
            int(Path(f"/proc/{front.process.pid}/stat").read_text().split()[4]) == front.process.pid
        )

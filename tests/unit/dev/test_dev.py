"""dev: a model that is served while it is edited, with real workers and real requests."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mms_handler import client, dev
from mms_handler.errors import SettingsError
from mms_handler.settings import Settings

ROOT = Path(__file__).parents[3]

SCRIPT = """
import os

def model_fn(model_dir):
    return "one"

def transform_fn(model, data, content_type, accept):
    if data == "bug":
        raise KeyError("a bug")
    if data == "end":
        os._exit(3)
    return f"{model} {data}", "text/plain"
"""


def free_port():
    """One that the settings take; each test process begins elsewhere."""
    for port in range(20_000 + os.getpid() % 10_000, 32_767):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


@pytest.fixture
def editing(tmp_path):
    """Serve a model with this script; ``.log`` has the lines, ``.write`` edits the script."""
    with contextlib.ExitStack() as stack:

        def start(source):
            script = tmp_path / "project" / "mine.py"
            script.parent.mkdir()
            (tmp_path / "words").mkdir()
            (tmp_path / "words" / "words.txt").write_text("one")
            script.write_text(source)
            log = []
            settings = dataclasses.replace(Settings(), port=free_port())
            path = tmp_path / "words"
            server = stack.enter_context(dev.serve(path, script, settings, log.append))
            server.log, server.script = log, script
            return server

        yield start


def ask(server, body="x"):
    return client.invoke(server.url, body.encode(), "text/csv")


def test_the_id_of_a_request(editing):
    """A client's id reaches the script and comes back, also where the request fails."""
    server = editing(
        "def model_fn(model_dir): return 1\n"
        "def transform_fn(model, data, content_type, accept, request_id, headers):\n"
        "    return f'{data} {request_id} {headers[\"traceparent\"]}', 'text/plain'\n"
    )
    headers = {"Content-Type": "text/csv", "X-Request-Id": "mine 1", "traceparent": "00-ab-cd-01"}
    answer = client.call("POST", server.url, b"x", headers)
    assert (answer.body, answer.headers["x-request-id"]) == (b"x mine 1 00-ab-cd-01", "mine 1")
    answer = client.call("POST", server.url + "s", b"x", {**headers, "X-Request-Id": "x" * 129})
    assert (answer.status, len(answer.headers["x-request-id"])) == (404, 36)
    assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"]


def test_an_edit_is_served_and_a_mistake_is_not(editing):
    """The last good version goes on while the new one does not load; the log has the traceback."""
    server = editing(SCRIPT)
    assert (ask(server).status, ask(server).body) == (200, b"one x")
    server.look()
    assert server.log == []
    server.script.write_text(SCRIPT.replace('"one"', '"two"'))
    server.look()
    assert ask(server).body == b"two x"
    assert re.fullmatch(r"mine.py changed; loaded again in \d+\.\d s", server.log[-1])
    server.script.write_text("import nosuch\n" + SCRIPT)
    server.look()
    answer = ask(server)
    assert answer.body == b"two x"
    reason = "script: ModuleNotFoundError: No module named 'nosuch' (mine.py, line 1)"
    assert answer.headers["x-does-not-load"] == reason
    first, place, *_, last = server.log[-1].splitlines()
    assert first == "Traceback (most recent call last):"
    assert place == f'  File "{server.script}", line 1, in <module>'
    assert last == f"mine.py changed; it does not load, the last version goes on: {reason}"
    server.script.write_text(SCRIPT.replace('"one"', '"three"'))
    answer = ask(server)  # a request that comes after an edit is answered with it
    assert (answer.body, "x-does-not-load" in answer.headers) == (b"three x", False)


def test_an_edit_of_the_same_size_in_the_same_second(editing, monkeypatch):
    """Python takes compiled files for new if the second and the size are the same."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    server = editing(SCRIPT)
    second_ns = server.script.stat().st_mtime_ns // 10**9 * 10**9
    for millis, word in enumerate(("two", "six", "ten"), 1):
        server.script.write_text(SCRIPT.replace("one", word))
        os.utime(server.script, ns=(second_ns, second_ns + millis * 10**6))
        assert ask(server).body == f"{word} x".encode()


def test_a_bug_is_in_the_reply(editing, capfd):
    """With the script's traceback, which the terminal has too."""
    server = editing(SCRIPT)
    answer = ask(server, "bug")
    fault = json.loads(answer.body)
    assert (answer.status, fault["type"]) == (500, "KeyError")
    assert fault["message"] == "KeyError: 'a bug' (mine.py, line 9)"
    assert f'File "{server.script}", line 9, in transform_fn' in fault["traceback"]
    assert "mms_handler/" not in fault["traceback"]
    assert fault["request_id"] == answer.headers["x-request-id"]
    output = capfd.readouterr().err
    assert fault["traceback"] in output
    assert f"request {fault['request_id']}: 500 KeyError: 'a bug' (mine.py, line 9)\n" in output


def test_a_model_that_never_loaded(editing):
    """Requests get the reason, until it is mended."""
    server = editing("raise ValueError('not yet')")
    ping = f"{server.url.partition('/predictions')[0]}/ping"
    assert client.call("GET", ping).status == 503
    answer = ask(server)
    fault = json.loads(answer.body)
    reason = "the model does not load: script: ValueError: not yet (mine.py, line 1)"
    assert (answer.status, fault["message"]) == (503, reason)
    assert f'File "{server.script}", line 1' in fault["traceback"]
    server.script.write_text(SCRIPT)
    server.look()
    assert ask(server).body == b"one x"
    assert client.call("GET", ping).status == 200


def test_a_worker_that_ends(editing):
    """Its request gets 503; the next one another worker."""
    server = editing(SCRIPT)
    answer = ask(server, "end")
    assert answer.status == 503
    assert answer.message() == "the worker ended with 3; another one is starting"
    assert ask(server).body == b"one x"


def test_other_machines_are_not_served(tmp_path):
    settings = dataclasses.replace(Settings(), host="0.0.0.0")
    with pytest.raises(SettingsError, match="--dev serves this machine alone"):
        dev.serve(tmp_path, None, settings, print).__enter__()


def test_a_breakpoint_has_the_terminal(tmp_path):
    """The command, in a terminal: the debugger reads it, and the reply comes when it continues."""
    (tmp_path / "words" / "code").mkdir(parents=True)
    source = SCRIPT.replace('    if data == "bug":', '    breakpoint()\n    if data == "bug":')
    (tmp_path / "words" / "code" / "inference.py").write_text(source)
    port = free_port()
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "mms_handler", "serve", "--dev", str(tmp_path / "words")]
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdin=end, stdout=end, stderr=end, start_new_session=True
    )
    os.close(end)
    try:
        seen = ""

        def read_until(words):
            nonlocal seen
            while words not in seen:
                seen += os.read(terminal, 4096).decode()

        read_until(f"words is ready: http://127.0.0.1:{port}/predictions/words")
        answers = []

        def request():
            url = f"http://127.0.0.1:{port}/invocations"
            answers.append(client.invoke(url, b"x", "text/csv").body)

        thread = threading.Thread(target=request)
        thread.start()
        read_until("(Pdb)")
        os.write(terminal, b"p 'model is', model\nc\n")
        read_until("('model is', 'one')")
        thread.join(30)
        assert answers == [b"one x"]
    finally:
        process.terminate()
        process.wait(30)
        os.close(terminal)


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--dev"], 2, "--dev needs exactly one PATH"),
        (["--script", "setup.py"], 2, "--script needs exactly one PATH"),
        (["--script", "LICENSE", "tests"], 1, "LICENSE is not a .py file; name the script, or its"),
    ],
)
def test_wrong_usage(words, code, reason):
    command = [sys.executable, "-m", "mms_handler", "serve", *words]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code
    assert reason in done.stderr

"""serve: models are registered one after another, and watched until the server ends.

The stand-in of local_mms.py is started in Java's place.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import tempfile
from pathlib import Path

import pytest
from local_mms import wait_until

from mms_handler import client
from mms_handler.errors import ArchiveError, NoSuchModel, ServerError
from mms_handler.server import front_end, model_processes, serve
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.machine import Machine
from mms_handler.server.registry import Mending
from mms_handler.settings import Settings

GB = 2**30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def serving(tmp_path, mms, used, source, monkeypatch):
    """Serve models of these names on a machine with four cores and 8 GB; the log is in .lines."""

    @contextlib.contextmanager
    def started(settings, tokens, plan, log, ready_s, expected):
        serving.expected = expected
        serving.tokens = tokens
        serving.folder = Path(tempfile.mkdtemp(dir=tmp_path))
        yield FrontEnd(serving.folder, mms.java, log, mms.url, mms.url)
        for name in expected:
            mms.end(name)

    def serving(*names, **fields):
        sources = [source(name).path for name in names]
        ports = {"port": free_port(), "management_port": free_port()}
        settings = Settings(**{**ports, **fields})
        serving.lines, serving.port = [], settings.management_port
        return serve(sources, settings, log=serving.lines.append)

    monkeypatch.setattr(front_end, "started", started)
    monkeypatch.setattr("mms_handler.server.server.this_machine", lambda: Machine(4, 8 * GB))
    return serving


def calls(mms, *methods):
    return [call for call in mms.calls if call[0] in methods]


def test_every_model_is_served(serving, mms):
    """With as many workers as there are cores for; the gate opens when all are loaded."""
    mms.during = lambda call: (serving.folder / "ready").exists() and mms.calls.append(("OPEN",))
    with serving("one", "two", host="127.0.0.1") as running:
        assert running.versions.names() == ["one", "two"]
        assert running.predictions_url("one") == f"{running.url}/predictions/one"
        assert running.process is mms.java
        assert (serving.folder / "ready").exists()
        listed = client.call("GET", f"http://127.0.0.1:{serving.port}/models")
        models = json.loads(listed.body)["models"]
        assert [model["modelName"] for model in models] == ["one", "two"]
    loads = [("POST", "one", 1), ("PUT", "one", 2), ("POST", "two", 1), ("PUT", "two", 2)]
    assert calls(mms, "POST", "PUT", "OPEN")[: len(loads)] == loads
    assert serving.expected == ["one", "two"]
    assert mms.routes == ["", "one 1 one READY 100", "two 1 two READY 100"]
    assert "INFO    serve  workers per model: 2, threads per worker: 1, " in serving.lines[0]


def test_a_number_of_workers(serving, mms):
    """Is started at once."""
    with serving("one", workers=3):
        pass
    assert calls(mms, "POST", "PUT") == [("POST", "one", 3)]


def test_one_core_for_each_model(serving, mms):
    """Nothing is scaled."""
    with serving(*"abcd"):
        pass
    assert calls(mms, "PUT") == []


def test_a_model_that_cannot_be_loaded(serving, mms):
    """Ends the server, or not; clients need not wait for it."""
    mms.statuses["POST"] = 500
    with pytest.raises(ServerError, match="^one cannot be served: because$"), serving("one"):
        pytest.fail("it is served")
    with serving("one", keep_going=True) as running:
        assert running.versions.names() == []
    assert serving.lines[-1].endswith(
        " ERROR   serve  one cannot be served: because; serving the other models without it"
    )
    assert mms.routes == [""]


def test_what_is_checked_before_anything_starts(serving, mms, tmp_path):
    """Names, ports and tokens."""
    (tmp_path / "a b").mkdir()
    for name, error, reason in (
        ("nowhere", NoSuchModel, r"nowhere is neither a \.mar, a \.tar\.gz, a \.tgz nor"),
        ("a b", ArchiveError, "not a valid"),
    ):
        served = serve([tmp_path / name], Settings(port=free_port()), log=print)
        with pytest.raises(error, match=reason), served:
            pytest.fail("it is served")
    for name in ("port", "management_port"):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = {name: other.getsockname()[1]}
            with pytest.raises(ServerError, match="cannot be used: "), serving("one", **taken):
                pytest.fail("it is served")
    assert mms.calls == []


def test_tokens(serving, tmp_path):
    """Are passed on; a file that others can read is worth a warning."""
    path = tmp_path / "tokens"
    path.write_text(f"inference {'a' * 32}\n")
    path.chmod(0o644)
    with serving("one", token_file=str(path)):
        assert serving.tokens[:2] == ("a" * 32, "")
    assert str(path) in serving.lines[0]
    path.chmod(0o600)
    with serving("one", token_file=str(path)):
        pass
    assert "serve  workers per model: " in serving.lines[0]


def test_a_server_that_everyone_can_load_code_into(serving):
    """It starts, as SageMaker needs it, with a warning."""
    words = "warning: everyone who reaches 0.0.0.0:"
    for host, is_warned in (("0.0.0.0", True), ("127.0.0.1", False)):
        with serving("one", multi_model=True, host=host):
            assert (words in serving.lines[0]) is is_warned


# --- watching --------------------------------------------------------------------------------


def test_java_that_ends(serving, mms):
    """Even with 0."""
    with serving("one") as running:
        mms.java.send_signal(signal.SIGKILL)
        with pytest.raises(ServerError, match="^MMS ended unexpectedly with exit code -9$"):
            running.wait()


@pytest.mark.parametrize("keep_going", [False, True])
@pytest.mark.parametrize("reason", ["", "no weights"])
def test_workers_that_die_too_often(serving, mms, keep_going, reason):
    """End the server, or their model."""
    died = "the workers of one died more than 2 times in 60 s" + (f": {reason}" if reason else "")
    with serving("one", "two", restarts=2, keep_going=keep_going) as running:
        running._check_models()
        running._worker_restarts = lambda: {("one", "1"): 2, ("two", "1"): 1}
        running._check_models()
        running._worker_restarts = lambda: {("one", "1"): 3, ("two", "1"): 1}
        if reason:
            path = serving.folder / "store" / "one" / "MAR-INF" / "load-error"
            path.parent.mkdir(exist_ok=True)
            path.write_text(reason)
        if not keep_going:
            with pytest.raises(ServerError, match=f"^{died}$"):
                running._check_models()
            return
        running._check_models()
        assert running.versions.names() == ["two"]
        assert [line.partition("serve  ")[2] for line in serving.lines[1:]] == [
            *["a worker of one died; deaths of one in the last minute: 2"] * 2,
            "a worker of two died; deaths of two in the last minute: 1",
            "a worker of one died; deaths of one in the last minute: 3",
            f"{died}; it is unregistered",
        ]
        running._check_models()


def test_how_a_worker_died(serving, mms):
    """The log has it, as far as the system tells."""
    with serving("one", workers=2) as running:
        running._check_models()
        worker = next(each for each in mms.processes("one") if each.ppid() != mms.java.pid)
        worker.kill()
        wait_until(lambda: not model_processes.is_alive(worker))
        running._worker_restarts = lambda: {("one", "1"): 1}
        running._check_models()
    assert serving.lines[-1].partition("serve  ")[2].startswith(f"worker {worker.pid} of one ")


def test_a_model_that_a_client_unregisters_meanwhile(serving, mms):
    """Is no error, and neither is MMS that does not answer."""
    with serving("one", "two", restarts=0, keep_going=True) as running:
        running._worker_restarts = lambda: {("one", "1"): 1, ("two", "1"): 1}
        give_up = running.versions.give_up

        def first(name):
            give_up(name)
            if name == "two":
                raise ServerError("no answer")
            give_up(name)

        running.versions.give_up = first
        running._check_models()
        assert running.versions.names() == []
    assert serving.lines[-1].endswith("serve  two may still have processes: no answer")


def test_a_model_that_cannot_be_mended(serving, mms):
    """Ends a server that is not to go on."""
    with serving("one", restarts=1) as running:
        mms.end("one")
        mms.statuses["POST"] = 500
        running._check_models()
        model = running.versions.registry.model("one")
        running.versions.registry.replace("one", model._replace(mending=Mending(1, 0)))
        with pytest.raises(ServerError, match="^one cannot be served: because$"):
            running._check_models()


def test_a_server_for_many_models_goes_on(serving, mms, tmp_path):
    """Without the one that is lost."""
    path = tmp_path / "tokens"
    path.write_text(f"management {'a' * 32}\n")
    many = {"multi_model": True, "token_file": str(path)}
    with serving("one", restarts=0, **many) as running:
        mms.end("one")
        mms.statuses["POST"] = 500
        running._check_models()
        running._check_models()  # the death was one too many
        assert running.versions.names() == []

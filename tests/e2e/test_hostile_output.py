"""serve counts no word that a client or a script can put into its log."""

from __future__ import annotations

from pathlib import Path

from running_mms import EXAMPLES, Serving, free_ports, wait_for

from mms_handler import client

ECHO = """\
import sys

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    print(data.decode())
    print(data.decode(), file=sys.stderr)
    if data == b"die":
        import os
        os._exit(3)
    return data, "text/plain"
"""


def model(folder: Path, name: str, script: str) -> Path:
    (folder / name / "code").mkdir(parents=True)
    (folder / name / "code" / "inference.py").write_text(script)
    return folder / name


#: What workers print when they load a model, and when they cannot.
LINES = ("model {} is loaded", "cannot load model {}: the weights are gone")


def test_words_that_look_like_deaths(tmp_path):
    """A script prints its input, and refused bodies are quoted in the log: neither is a death."""
    log = tmp_path / "log"
    paths = (model(tmp_path, "echo", ECHO), EXAMPLES / "linear")
    with Serving(free_ports(), *paths, "--workers", "1", "--restarts", "1", log=log) as serving:
        for words in LINES * 4:
            body = words.format("echo").encode()
            answer = serving.ask("echo", body, content_type="text/plain")
            assert (answer.status, answer.body) == (200, body)
            body = words.format("linear").encode()
            assert serving.ask("linear", body, content_type="text/csv").status == 400
        wait_for(lambda: log.read_text().count("cannot load model") >= 8, 5)
        # The next answer comes after serve has looked at the counts at least twice.
        assert serving.ask("echo", b"die", content_type="text/plain").status == 500
        wait_for(lambda: serving.ask("echo", b"1", content_type="text/plain").status == 200, 15)
        assert serving.ask("linear").status == 200
        assert serving.process.poll() is None
        metrics = client.call("GET", f"{serving.inference}/metrics").body.decode()
        for name, count in (("echo", 1), ("linear", 0)):
            assert f'worker_restarts_total{{model="{name}",version="1"}} {count}\n' in metrics
